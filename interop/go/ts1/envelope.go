package ts1

import (
	"math"

	"tallystick-interop/cbor"
)

// Header is §2 of docs/spec/envelope.md.
type Header struct {
	SID, DH, Salt []byte
	Epoch, PN, N  uint32
}

// Handshake is §3. OpkID and Continuity are nil when absent.
type Handshake struct {
	Reset                                            bool
	EK, KemCiphertext, CertificateDigest, Continuity []byte
	SpkID, PqID                                      uint32
	PqKind                                           string
	OpkID                                            *uint32
}

// Envelope is §1, with header and handshake also as the bytes that travelled.
type Envelope struct {
	Header                                          Header
	Handshake                                       *Handshake
	HeaderBytes, HandshakeBytes, Commit, Ciphertext []byte
}

// Prekey is a signed prekey of a bundle; Kind is empty for the X25519 one.
type Prekey struct {
	ID             uint32
	Key, Signature []byte
	Kind           string
}

// Bundle is §5. Opk is nil when the stock is empty, Epoch when the giver names none.
type Bundle struct {
	Epoch       *uint32
	Certificate []byte
	Spk, Pq     Prekey
	Opk         *Prekey
}

var (
	envelopeLimits = cbor.Limits{MaxBytes: 4<<20 + 64<<10, MaxDepth: 1, MaxItems: 8}
	partLimits     = cbor.Limits{MaxBytes: 2048, MaxDepth: 1, MaxItems: 16}
	bundleLimits   = cbor.Limits{MaxBytes: 16 << 10, MaxDepth: 2, MaxItems: 40}
)

// Smallest bucket and tag; no upper limit but that of the envelope.
const leastCiphertext = 1024 + 16

func schema(err error) error {
	if err == nil {
		return nil
	}
	return refusal("Serialization", err.Error())
}

func kindByte(kind string) []byte {
	if kind == "one-time" {
		return []byte{1}
	}
	return []byte{2}
}

// DecodeEnvelope reads an envelope, its header and its handshake.
func DecodeEnvelope(data []byte) (*Envelope, error) {
	f := cbor.Open(data, envelopeLimits)
	e := &Envelope{HeaderBytes: f.Bytes("header", 1, 256)}
	if err := schema(f.Err()); err != nil {
		return nil, err
	}
	// Version and suite are judged before anything else, since another version may have other fields.
	header, err := decodeHeader(e.HeaderBytes)
	if err != nil {
		return nil, err
	}
	e.Header = *header
	e.Commit, e.Ciphertext = f.Bytes("commit", 32, 32), f.Bytes("ciphertext", leastCiphertext, envelopeLimits.MaxBytes)
	if f.Has("handshake") {
		e.HandshakeBytes = f.Bytes("handshake", 1, 2048)
	}
	if err := schema(f.Done()); err != nil {
		return nil, err
	}
	if e.HandshakeBytes != nil {
		if e.Handshake, err = DecodeHandshake(e.HandshakeBytes); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Encode gives the envelope's bytes from the bytes of its parts.
func (e *Envelope) Encode() []byte {
	m := cbor.Map{"header": e.HeaderBytes, "commit": e.Commit, "ciphertext": e.Ciphertext}
	if e.HandshakeBytes != nil {
		m["handshake"] = e.HandshakeBytes
	}
	return cbor.Encode(m)
}

func decodeHeader(data []byte) (*Header, error) {
	f := cbor.Open(data, partLimits)
	version, name := f.Uint("v", math.MaxUint32), f.Text("suite")
	if err := schema(f.Err()); err != nil {
		return nil, err
	}
	if version != 1 || name != suite {
		return nil, refusal("UnsupportedVersion", "another version or suite")
	}
	h := &Header{
		SID: f.Bytes("sid", 16, 16), DH: f.Bytes("dh", 32, 32), Salt: f.Bytes("salt", 32, 32),
		Epoch: uint32(f.Uint("epoch", math.MaxUint32)), PN: uint32(f.Uint("pn", math.MaxUint32)), N: uint32(f.Uint("n", math.MaxUint32)),
	}
	return h, schema(f.Done())
}

// Encode gives the header's bytes.
func (h *Header) Encode() []byte {
	return cbor.Encode(cbor.Map{"v": 1, "suite": suite, "sid": h.SID, "epoch": h.Epoch, "dh": h.DH, "pn": h.PN, "n": h.N, "salt": h.Salt})
}

func takeKind(f *cbor.Fields, name string) (string, error) {
	kind := f.Text(name)
	if f.Err() == nil && kind != "one-time" && kind != "last-resort" {
		return "", refusal("Serialization", "unknown kind of prekey")
	}
	return kind, nil
}

// DecodeHandshake reads a handshake.
func DecodeHandshake(data []byte) (*Handshake, error) {
	f := cbor.Open(data, partLimits)
	h := &Handshake{
		EK: f.Bytes("ek", 32, 32), KemCiphertext: f.Bytes("kemCiphertext", 1568, 1568), CertificateDigest: f.Bytes("certificateDigest", 32, 32),
		SpkID: uint32(f.Uint("spkId", math.MaxUint32)), PqID: uint32(f.Uint("pqId", math.MaxUint32)),
	}
	var err error
	if h.PqKind, err = takeKind(f, "pqKind"); err != nil {
		return nil, err
	}
	if f.Has("opkId") {
		id := uint32(f.Uint("opkId", math.MaxUint32))
		h.OpkID = &id
	}
	if f.Has("continuity") {
		h.Continuity = f.Bytes("continuity", 32, 32)
	}
	if f.Has("reset") {
		// false is a second spelling of its absence.
		if value, ok := f.Any("reset").(bool); !ok || !value || h.Continuity != nil {
			return nil, refusal("Serialization", "reset")
		}
		h.Reset = true
	}
	return h, schema(f.Done())
}

// Encode gives the handshake's bytes.
func (h *Handshake) Encode() []byte {
	m := cbor.Map{"ek": h.EK, "spkId": h.SpkID, "pqId": h.PqID, "pqKind": h.PqKind, "kemCiphertext": h.KemCiphertext, "certificateDigest": h.CertificateDigest}
	if h.OpkID != nil {
		m["opkId"] = *h.OpkID
	}
	if h.Continuity != nil {
		m["continuity"] = h.Continuity
	}
	if h.Reset {
		m["reset"] = true
	}
	return cbor.Encode(m)
}

// DecodeBundle reads a bundle; its signatures are checked by Initiate.
func DecodeBundle(data []byte) (*Bundle, error) {
	f := cbor.Open(data, bundleLimits)
	version := f.Uint("v", math.MaxUint32)
	if err := schema(f.Err()); err != nil {
		return nil, err
	}
	if version != 1 {
		return nil, refusal("UnsupportedVersion", "another version")
	}
	b := &Bundle{Certificate: f.Bytes("certificate", 1, 4096)}
	spk, pq := cbor.FieldsOf(f.Any("spk")), cbor.FieldsOf(f.Any("pq"))
	b.Spk = takePrekey(spk, 32, true)
	b.Pq = takePrekey(pq, 1568, true)
	var err error
	if b.Pq.Kind, err = takeKind(pq, "kind"); err != nil {
		return nil, err
	}
	if f.Has("epoch") {
		epoch := uint32(f.Uint("epoch", math.MaxUint32))
		b.Epoch = &epoch
	}
	parts := []*cbor.Fields{spk, pq}
	if f.Has("opk") {
		opk := cbor.FieldsOf(f.Any("opk"))
		key := takePrekey(opk, 32, false)
		b.Opk = &key
		parts = append(parts, opk)
	}
	for _, part := range append(parts, f) {
		if err := schema(part.Done()); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func takePrekey(f *cbor.Fields, size int, signed bool) Prekey {
	key := Prekey{ID: uint32(f.Uint("id", math.MaxUint32)), Key: f.Bytes("key", size, size)}
	if signed {
		key.Signature = f.Bytes("signature", 64, 64)
	}
	return key
}

// Encode gives the bundle's bytes.
func (b *Bundle) Encode() []byte {
	m := cbor.Map{
		"v": 1, "certificate": b.Certificate,
		"spk": cbor.Map{"id": b.Spk.ID, "key": b.Spk.Key, "signature": b.Spk.Signature},
		"pq":  cbor.Map{"id": b.Pq.ID, "key": b.Pq.Key, "signature": b.Pq.Signature, "kind": b.Pq.Kind},
	}
	if b.Opk != nil {
		m["opk"] = cbor.Map{"id": b.Opk.ID, "key": b.Opk.Key}
	}
	if b.Epoch != nil {
		m["epoch"] = *b.Epoch
	}
	return cbor.Encode(m)
}
