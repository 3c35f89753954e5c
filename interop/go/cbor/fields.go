package cbor

import "fmt"

// Fields takes the fields of a closed map one by one; Done fails when a field was missing, of another type, or left over.
type Fields struct {
	rest Map
	err  error
}

// Open reads one map and hands its fields to the caller.
func Open(data []byte, limits Limits) *Fields {
	value, err := Decode(data, limits)
	if err != nil {
		return &Fields{rest: Map{}, err: err}
	}
	return FieldsOf(value)
}

// FieldsOf takes a decoded value that must be a map.
func FieldsOf(value any) *Fields {
	m, ok := value.(Map)
	f := &Fields{rest: Map{}}
	if !ok {
		f.err = refuse("not a map")
		return f
	}
	for name, element := range m {
		f.rest[name] = element
	}
	return f
}

func (f *Fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: %s", ErrEncoding, fmt.Sprintf(format, args...))
	}
}

// Has says whether a field that may be absent is there.
func (f *Fields) Has(name string) bool { _, ok := f.rest[name]; return ok }

// Any takes a field of any type.
func (f *Fields) Any(name string) any {
	value, ok := f.rest[name]
	if !ok {
		f.fail("%s is missing", name)
	}
	delete(f.rest, name)
	return value
}

// Bytes takes a byte string of least to most bytes.
func (f *Fields) Bytes(name string, least, most int) []byte {
	value, ok := f.Any(name).([]byte)
	if !ok || len(value) < least || len(value) > most {
		f.fail("%s: not %d to %d bytes", name, least, most)
		return nil
	}
	return value
}

// Text takes a text.
func (f *Fields) Text(name string) string {
	value, ok := f.Any(name).(string)
	if !ok {
		f.fail("%s: not text", name)
	}
	return value
}

// Uint takes an integer of 0 to most.
func (f *Fields) Uint(name string, most uint64) uint64 {
	value, ok := f.Any(name).(uint64)
	if !ok || value > most {
		f.fail("%s: not an integer of 0 to %d", name, most)
		return 0
	}
	return value
}

// List takes a list.
func (f *Fields) List(name string) []any {
	value, ok := f.Any(name).([]any)
	if !ok {
		f.fail("%s: not a list", name)
	}
	return value
}

// Err is the first failure so far.
func (f *Fields) Err() error { return f.err }

// Done is the first failure, fields left over among them.
func (f *Fields) Done() error {
	for name := range f.rest {
		f.fail("unknown field %q", name)
	}
	return f.err
}
