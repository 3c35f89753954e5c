// Package evidence checks evidence files (docs/spec/evidence.md) without a fleet or a network.
package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	format        = "tallystick-evidence/v1"
	maxCharacters = 8 << 20

	maxCertificateBytes = 4096
	maxStatementBytes   = 2048
	maxReceiptBytes     = 64 << 10
	maxVerdictBytes     = 16 << 10
	maxLeafBytes        = 4096
	maxNote             = 8192
)

type logEntry struct {
	leaf, salt  []byte
	index, size uint64
	proof       [][]byte
	note        string
}

type logPart struct {
	vkey    string
	entries []logEntry
}

type side struct {
	certificate []byte
	log         *logPart
}

type file struct {
	kind, documentID        string
	digest, body, statement []byte
	sender, recipient       side
	receipt                 *struct {
		messageID string
		body      []byte
	}
	verdicts []struct{ body, statement []byte }
}

// object takes the fields of one closed JSON object. encoding/json's own structs would match names in any letter case.
type object struct {
	path string
	rest map[string]json.RawMessage
	err  *error
}

func (o object) fail(name, what string) {
	if *o.err == nil {
		*o.err = fmt.Errorf("%s%s: %s", o.path, name, what)
	}
}

func (o object) has(name string) bool { _, ok := o.rest[name]; return ok }

func (o object) raw(name string) json.RawMessage {
	raw, ok := o.rest[name]
	if !ok {
		o.fail(name, "missing")
	}
	delete(o.rest, name)
	return raw
}

func (o object) into(name string, target any) bool {
	raw := o.raw(name)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, target) != nil {
		o.fail(name, "another type")
		return false
	}
	return true
}

func (o object) text(name string) (text string) { o.into(name, &text); return text }

func (o object) shortText(name string, most int) string {
	text := o.text(name)
	if units(text) > most {
		o.fail(name, fmt.Sprintf("longer than %d", most))
	}
	return text
}

// units is the length of a text in UTF-16, in which docs/spec counts characters.
func units(text string) int { return len(utf16.Encode([]rune(text))) }

func (o object) uuid(name string) string {
	text := o.text(name)
	if !isUUID(text) {
		o.fail(name, "not a UUID")
	}
	return text
}

func (o object) base64(name string, most int) []byte {
	text := o.text(name)
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(text)
	// The decoder of the standard library skips line ends; one spelling only is allowed here.
	if err != nil || base64.RawURLEncoding.EncodeToString(decoded) != text {
		o.fail(name, "not base64url without padding")
	}
	if len(decoded) > most {
		o.fail(name, fmt.Sprintf("more than %d bytes", most))
	}
	return decoded
}

func (o object) hex32(name string) []byte {
	decoded, err := hex32(o.text(name))
	if err != nil {
		o.fail(name, err.Error())
	}
	return decoded
}

func hex32(text string) ([]byte, error) {
	decoded, err := hex.DecodeString(text)
	if err != nil || len(decoded) != 32 || hex.EncodeToString(decoded) != text {
		return nil, errors.New("not 32 bytes in lower-case hex")
	}
	return decoded, nil
}

func (o object) integer(name string) uint64 {
	value, err := strconv.ParseUint(string(o.raw(name)), 10, 64)
	if err != nil || value > maxSafe {
		o.fail(name, "not an integer")
	}
	return value
}

func (o object) object(name string) object {
	return open(o.raw(name), o.path+name+".", o.err)
}

func (o object) list(name string) (list []json.RawMessage) { o.into(name, &list); return list }

func (o object) done() {
	for name := range o.rest {
		o.fail(name, "unknown field")
	}
}

func open(raw []byte, path string, err *error) object {
	o := object{path: path, err: err}
	if json.Unmarshal(raw, &o.rest) != nil || o.rest == nil {
		o.rest = map[string]json.RawMessage{}
		o.fail("", "not an object")
	}
	return o
}

func parse(data []byte) (*file, error) {
	if !utf8.Valid(data) || units(string(data)) > maxCharacters {
		return nil, errors.New("not UTF-8, or longer than 8 Mi characters")
	}
	var raw json.RawMessage
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&raw); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("something after the JSON value")
	}
	err := namesOnce(json.NewDecoder(bytes.NewReader(data)))
	f := &file{}
	top := open(raw, "", &err)
	if top.text("format") != format {
		top.fail("format", "unknown")
	}
	document := top.object("document")
	f.kind, f.documentID = document.text("kind"), document.uuid("documentId")
	f.digest, f.body, f.statement = document.hex32("contentDigest"), document.base64("body", 4<<20), document.base64("statement", maxStatementBytes)
	document.done()
	if err == nil && (!oneOf(statementKinds, f.kind) || f.kind == "verdict") {
		document.fail("kind", "not of a document")
	}
	f.sender, f.recipient = parseSide(top.object("sender")), parseSide(top.object("recipient"))
	if top.has("receipt") {
		receipt := top.object("receipt")
		f.receipt = &struct {
			messageID string
			body      []byte
		}{receipt.uuid("messageId"), receipt.base64("body", maxReceiptBytes)}
		receipt.done()
	}
	if top.has("verdicts") {
		list := top.list("verdicts")
		if len(list) < 1 || len(list) > 16 {
			top.fail("verdicts", "not 1 to 16")
		}
		for i, raw := range list {
			verdict := open(raw, fmt.Sprintf("verdicts[%d].", i), &err)
			f.verdicts = append(f.verdicts, struct{ body, statement []byte }{verdict.base64("body", maxVerdictBytes), verdict.base64("statement", maxStatementBytes)})
			verdict.done()
		}
	}
	top.done()
	return f, err
}

// namesOnce walks one JSON value and fails at an object that has a name twice; encoding/json would keep the last.
func namesOnce(decoder *json.Decoder) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	bracket, _ := token.(json.Delim)
	if bracket != '{' && bracket != '[' {
		return nil
	}
	seen := map[string]bool{}
	for decoder.More() {
		if bracket == '{' {
			name, err := decoder.Token()
			if err != nil {
				return err
			}
			text, _ := name.(string)
			if seen[text] {
				return fmt.Errorf("%q is given twice", text)
			}
			seen[text] = true
		}
		if err := namesOnce(decoder); err != nil {
			return err
		}
	}
	_, err = decoder.Token()
	return err
}

func parseSide(o object) side {
	s := side{certificate: o.base64("certificate", maxCertificateBytes)}
	if o.has("log") {
		l := o.object("log")
		s.log = &logPart{vkey: l.shortText("vkey", 400)}
		list := l.list("entries")
		if len(list) < 1 || len(list) > 64 {
			l.fail("entries", "not 1 to 64")
		}
		for i, raw := range list {
			s.log.entries = append(s.log.entries, parseEntry(open(raw, fmt.Sprintf("%sentries[%d].", l.path, i), o.err)))
		}
		l.done()
	}
	o.done()
	return s
}

func parseEntry(o object) logEntry {
	e := logEntry{leaf: o.base64("leaf", maxLeafBytes), salt: o.hex32("salt"), index: o.integer("index"), size: o.integer("size"), note: o.shortText("note", maxNote)}
	if e.size < 1 {
		o.fail("size", "0")
	}
	list := o.list("proof")
	if len(list) > 63 {
		o.fail("proof", "more than 63")
	}
	for i, raw := range list {
		var text string
		_ = json.Unmarshal(raw, &text) // what is not text is refused as hex
		hash, err := hex32(text)
		if err != nil {
			o.fail(fmt.Sprintf("proof[%d]", i), err.Error())
		}
		e.proof = append(e.proof, hash)
	}
	o.done()
	return e
}
