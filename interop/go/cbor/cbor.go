// Package cbor is the deterministic CBOR of docs/spec/payload.md §1, written by hand so that it shares nothing with the
// product's codec: RFC 8949 §4.2.1, maps with text keys, no floats, no tags, no indefinite lengths, one encoding of each value.
package cbor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"unicode/utf8"
)

// Negative is the integer -1 - N.
type Negative struct{ N uint64 }

// Map is a decoded map. Values are uint64, Negative, []byte, string, bool, nil, []any or Map.
type Map map[string]any

// Limits bound a decoding; depth 0 is a value that is no container.
type Limits struct{ MaxBytes, MaxDepth, MaxItems int }

// ErrEncoding is wrapped by every refusal of Decode.
var ErrEncoding = errors.New("not deterministic CBOR")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrEncoding, fmt.Sprintf(format, args...))
}

const (
	majorUint = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

type reader struct {
	data   []byte
	at     int
	items  int
	limits Limits
}

// Decode reads exactly one value and nothing after it.
func Decode(data []byte, limits Limits) (any, error) {
	if len(data) > limits.MaxBytes {
		return nil, refuse("%d bytes", len(data))
	}
	r := &reader{data: data, limits: limits, items: -1} // the outermost value is no item
	value, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if r.at != len(data) {
		return nil, refuse("%d bytes after the value", len(data)-r.at)
	}
	return value, nil
}

func (r *reader) head() (major byte, info byte, argument uint64, err error) {
	if r.at >= len(r.data) {
		return 0, 0, 0, refuse("ends early")
	}
	first := r.data[r.at]
	r.at++
	major, info = first>>5, first&31
	if info < 24 {
		return major, info, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, 0, refuse("indefinite length or reserved head 0x%02x", first)
	}
	size := 1 << (info - 24)
	if len(r.data)-r.at < size {
		return 0, 0, 0, refuse("ends early")
	}
	for _, b := range r.data[r.at : r.at+size] {
		argument = argument<<8 | uint64(b)
	}
	r.at += size
	smallest := [4]uint64{24, 1 << 8, 1 << 16, 1 << 32}[info-24]
	if argument < smallest && major != majorSimple {
		return 0, 0, 0, refuse("an argument not in its shortest form")
	}
	return major, info, argument, nil
}

func (r *reader) take(length uint64) ([]byte, error) {
	if length > uint64(len(r.data)-r.at) {
		return nil, refuse("ends early")
	}
	taken := r.data[r.at : r.at+int(length)]
	r.at += int(length)
	return taken, nil
}

func (r *reader) value(depth int) (any, error) {
	r.items++
	if r.items > r.limits.MaxItems {
		return nil, refuse("more than %d items", r.limits.MaxItems)
	}
	major, info, argument, err := r.head()
	if err != nil {
		return nil, err
	}
	switch major {
	case majorUint:
		return argument, nil
	case majorNegative:
		return Negative{argument}, nil
	case majorBytes:
		taken, err := r.take(argument)
		return bytes.Clone(append([]byte{}, taken...)), err
	case majorText:
		taken, err := r.take(argument)
		if err == nil && !utf8.Valid(taken) {
			err = refuse("text that is not UTF-8")
		}
		return string(taken), err
	case majorArray, majorMap:
		// Each element takes a byte at least, so that a length beyond the rest of the input is never believed.
		if depth >= r.limits.MaxDepth || argument > uint64(len(r.data)-r.at) {
			return nil, refuse("nested too deeply, or longer than the input")
		}
		if major == majorArray {
			return r.array(argument, depth)
		}
		return r.mapping(argument, depth)
	case majorSimple:
		switch info {
		case 20:
			return false, nil
		case 21:
			return true, nil
		case 22:
			return nil, nil
		}
		return nil, refuse("a float or an unknown simple value")
	}
	return nil, refuse("a tag")
}

func (r *reader) array(length uint64, depth int) (any, error) {
	list := make([]any, 0, min(length, 64))
	for range length {
		element, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	return list, nil
}

func (r *reader) mapping(length uint64, depth int) (any, error) {
	result := Map{}
	var previous []byte
	for range length {
		start := r.at
		key, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		name, isText := key.(string)
		if !isText {
			return nil, refuse("a key that is not text")
		}
		encoded := r.data[start:r.at]
		if previous != nil && bytes.Compare(previous, encoded) >= 0 {
			return nil, refuse("keys not in order, or twice the same")
		}
		previous = encoded
		if result[name], err = r.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// Encode gives the one encoding of a value of the types of Map, or of int.
func Encode(value any) []byte {
	switch v := value.(type) {
	case nil:
		return []byte{0xf6}
	case bool:
		if v {
			return []byte{0xf5}
		}
		return []byte{0xf4}
	case int:
		return head(majorUint, uint64(v))
	case uint32:
		return head(majorUint, uint64(v))
	case uint64:
		return head(majorUint, v)
	case Negative:
		return head(majorNegative, v.N)
	case []byte:
		return append(head(majorBytes, uint64(len(v))), v...)
	case string:
		return append(head(majorText, uint64(len(v))), v...)
	case []any:
		out := head(majorArray, uint64(len(v)))
		for _, element := range v {
			out = append(out, Encode(element)...)
		}
		return out
	case Map:
		type entry struct{ key, value []byte }
		entries := make([]entry, 0, len(v))
		for name, element := range v {
			entries = append(entries, entry{Encode(name), Encode(element)})
		}
		sort.Slice(entries, func(i, j int) bool { return bytes.Compare(entries[i].key, entries[j].key) < 0 })
		out := head(majorMap, uint64(len(v)))
		for _, e := range entries {
			out = append(append(out, e.key...), e.value...)
		}
		return out
	}
	panic(fmt.Sprintf("cbor: cannot encode a %T", value))
}

func head(major byte, argument uint64) []byte {
	top := major << 5
	switch {
	case argument < 24:
		return []byte{top | byte(argument)}
	case argument < 1<<8:
		return []byte{top | 24, byte(argument)}
	case argument < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{top | 25}, uint16(argument))
	case argument < 1<<32:
		return binary.BigEndian.AppendUint32([]byte{top | 26}, uint32(argument))
	}
	return binary.BigEndian.AppendUint64([]byte{top | 27}, argument)
}
