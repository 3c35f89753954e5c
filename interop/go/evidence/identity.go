package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strings"
	"unicode"

	"tallystick-interop/cbor"
	"tallystick-interop/ts1"
)

// Milliseconds. Five years are counted with leap days in each of them.
const (
	day           = 24 * 60 * 60 * 1000
	skew          = 120 * 1000
	maxCertLife   = 5 * 366 * day
	maxStatement  = 90 * day
	maxSafe       = 1<<53 - 1
	maxNameLength = 100
	maxSuccession = 8
)

// Certificate is docs/spec/identity.md §2.
type Certificate struct {
	FleetID, DisplayName     string
	SignKey, DHKey, LogKey   []byte
	PeerIDs                  []string
	NotBefore, NotAfter, Seq uint64
}

// FleetIDOf is docs/spec/identity.md §1.
func FleetIDOf(signKey []byte) string {
	digest := sha256.Sum256(append([]byte("tallystick/fleet-id/v1"), signKey...))
	return "tsf1" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(digest[:]))
}

// Origin is the log's origin and key name.
func (c *Certificate) Origin() string { return "tallystick/" + c.FleetID }

// Vkey is the verifier key of the certificate's log.
func (c *Certificate) Vkey() string {
	key := append([]byte{1}, c.LogKey...)
	digest := sha256.Sum256(append([]byte(c.Origin()+"\n"), key...))
	return c.Origin() + "+" + hex.EncodeToString(digest[:4]) + "+" + base64.StdEncoding.EncodeToString(key)
}

func (c *Certificate) validAt(at uint64) error {
	if at+skew < c.NotBefore || at > c.NotAfter+skew {
		return fmt.Errorf("not valid at %d", at)
	}
	return nil
}

// signed opens `{ payload, signature }`.
func signed(data []byte, most int) (payload, signature []byte, err error) {
	f := cbor.Open(data, cbor.Limits{MaxBytes: most, MaxDepth: 1, MaxItems: 8})
	payload, signature = f.Bytes("payload", 1, most), f.Bytes("signature", 64, 64)
	return payload, signature, f.Done()
}

func ownKind(f *cbor.Fields, domain string) error {
	if version := f.Uint("v", math.MaxUint64); f.Err() == nil && version != 1 {
		return fmt.Errorf("version %d", version)
	}
	if name := f.Text("domain"); f.Err() == nil && name != domain {
		return fmt.Errorf("domain %q", name)
	}
	return f.Err()
}

// ReadCertificate checks form, PeerIds, fleet id and signature; validity is the caller's, at the time that counts.
func ReadCertificate(data []byte) (*Certificate, error) {
	payload, signature, err := signed(data, maxCertificateBytes)
	if err != nil {
		return nil, err
	}
	f := cbor.Open(payload, cbor.Limits{MaxBytes: maxCertificateBytes, MaxDepth: 3, MaxItems: 128})
	if err := ownKind(f, "tallystick/certificate/v1"); err != nil {
		return nil, err
	}
	c := &Certificate{
		FleetID: f.Text("fleetId"), DisplayName: f.Text("displayName"),
		SignKey: f.Bytes("signKey", 32, 32), DHKey: f.Bytes("dhKey", 32, 32), LogKey: f.Bytes("logKey", 32, 32),
		NotBefore: f.Uint("notBefore", maxSafe), NotAfter: f.Uint("notAfter", maxSafe), Seq: f.Uint("sequence", maxSafe),
	}
	peers, suites := f.List("peerIds"), f.List("suites")
	links, err := takeSuccession(f)
	if err != nil {
		return nil, err
	}
	if err := f.Done(); err != nil {
		return nil, err
	}
	suiteNames, err := names(suites)
	if err != nil {
		return nil, fmt.Errorf("suites: %w", err)
	}
	for _, name := range suiteNames {
		if len(name) > 16 || name[0] < 'A' || name[0] > 'Z' || !only(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") {
			return nil, fmt.Errorf("suite %q", name)
		}
	}
	if c.PeerIDs, err = names(peers); err != nil {
		return nil, fmt.Errorf("peerIds: %w", err)
	}
	switch {
	case !plainName(c.DisplayName):
		return nil, fmt.Errorf("display name")
	case c.Seq < 1 || c.NotAfter <= c.NotBefore || c.NotAfter-c.NotBefore > maxCertLife:
		return nil, fmt.Errorf("sequence or validity")
	}
	for _, id := range c.PeerIDs {
		if !ed25519PeerID(id) {
			return nil, fmt.Errorf("PeerId %q", id)
		}
	}
	if err := c.checkSuccession(links); err != nil {
		return nil, err
	}
	if !ts1.Verify(c.SignKey, payload, signature) {
		return nil, fmt.Errorf("signature")
	}
	return c, nil
}

// link is one of docs/spec/identity.md §5: a root key that was replaced, and its signature over the next.
type link struct{ key, signature []byte }

func takeSuccession(f *cbor.Fields) (links []link, err error) {
	if !f.Has("succession") {
		return nil, nil
	}
	for _, element := range f.List("succession") {
		fields := cbor.FieldsOf(element)
		links = append(links, link{fields.Bytes("key", 32, 32), fields.Bytes("signature", 64, 64)})
		if err := fields.Done(); err != nil {
			return nil, err
		}
	}
	if len(links) < 1 || len(links) > maxSuccession {
		return nil, fmt.Errorf("succession of %d links", len(links))
	}
	return links, nil
}

// checkSuccession: the fleet id is that of the first root key, and each key of the chain signed the next.
func (c *Certificate) checkSuccession(links []link) error {
	keys := [][]byte{}
	for _, l := range links {
		keys = append(keys, l.key)
	}
	keys = append(keys, c.SignKey)
	seen := map[string]bool{}
	for _, key := range keys {
		if seen[string(key)] {
			return fmt.Errorf("succession: a key twice")
		}
		seen[string(key)] = true
	}
	if c.FleetID != FleetIDOf(keys[0]) {
		return fmt.Errorf("fleet id of another key")
	}
	for i, l := range links {
		message := append([]byte("tallystick/succession/v1"), keys[i+1]...)
		if !ts1.Verify(l.key, append(message, c.FleetID...), l.signature) {
			return fmt.Errorf("succession: link %d does not verify", i)
		}
	}
	return nil
}

func names(list []any) ([]string, error) {
	seen := map[string]bool{}
	var out []string
	for _, element := range list {
		name, ok := element.(string)
		if !ok || name == "" || seen[name] {
			return nil, fmt.Errorf("not distinct names")
		}
		seen[name] = true
		out = append(out, name)
	}
	if len(out) < 1 || len(out) > 8 {
		return nil, fmt.Errorf("%d of 1 to 8", len(out))
	}
	return out, nil
}

func plainName(name string) bool {
	return name != "" && units(name) <= maxNameLength && visible(name)
}

// visible says whether a text has none of the characters that docs/spec/identity.md §2 calls invisible.
func visible(text string) bool {
	for _, r := range text {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Cs, unicode.Co, unicode.Zl, unicode.Zp) {
			return false
		}
	}
	return true
}

// ed25519PeerID: base58btc of 00 24 (identity multihash of 36 bytes), 08 01 12 20 (protobuf of an Ed25519 key), key.
func ed25519PeerID(id string) bool {
	decoded, ok := base58(id)
	return ok && len(decoded) == 38 && bytes.Equal(decoded[:6], []byte{0, 0x24, 8, 1, 0x12, 0x20})
}

func base58(text string) ([]byte, bool) {
	const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	if len(text) > 64 {
		return nil, false
	}
	value := new(big.Int)
	for i := range len(text) {
		digit := strings.IndexByte(alphabet, text[i])
		if digit < 0 {
			return nil, false
		}
		value.Add(value.Mul(value, big.NewInt(58)), big.NewInt(int64(digit)))
	}
	zeros := len(text) - len(strings.TrimLeft(text, "1"))
	return append(make([]byte, zeros), value.Bytes()...), true
}

// Statement is docs/spec/documents.md §3.
type Statement struct {
	payload, signature       []byte
	Kind, DocumentID, Signer string
	Audience                 *string
	ContentDigest            []byte
	IssuedAt, ExpiresAt      uint64
}

var statementKinds = []string{"invoice", "credit-note", "quote", "payment-request", "receipt", "verdict"}

// ReadStatement checks the form only.
func ReadStatement(data []byte) (*Statement, error) {
	payload, signature, err := signed(data, maxStatementBytes)
	if err != nil {
		return nil, err
	}
	f := cbor.Open(payload, cbor.Limits{MaxBytes: maxStatementBytes, MaxDepth: 1, MaxItems: 32})
	if err := ownKind(f, "tallystick/document/v1"); err != nil {
		return nil, err
	}
	s := &Statement{
		payload: payload, signature: signature,
		Kind: f.Text("kind"), DocumentID: f.Text("documentId"), Signer: f.Text("signer"),
		ContentDigest: f.Bytes("contentDigest", 32, 32), IssuedAt: f.Uint("issuedAt", maxSafe), ExpiresAt: f.Uint("expiresAt", maxSafe),
	}
	f.Bytes("nonce", 32, 32)
	if audience := f.Any("audience"); audience != nil {
		text, ok := audience.(string)
		if !ok || !isFleetID(text) {
			return nil, fmt.Errorf("audience")
		}
		s.Audience = &text
	}
	if err := f.Done(); err != nil {
		return nil, err
	}
	switch {
	case !oneOf(statementKinds, s.Kind):
		return nil, fmt.Errorf("kind %q", s.Kind)
	case !isUUID(s.DocumentID), !isFleetID(s.Signer):
		return nil, fmt.Errorf("document id or signer")
	case s.ExpiresAt <= s.IssuedAt || s.ExpiresAt-s.IssuedAt > maxStatement:
		return nil, fmt.Errorf("times")
	}
	return s, nil
}

// check is what a verifier of evidence asks of a statement; the reader's clock has no part in it.
func (s *Statement) check(signer, audience *Certificate, kind, documentID string, digest []byte) error {
	switch {
	case s.Signer != signer.FleetID:
		return fmt.Errorf("another signer")
	case !ts1.Verify(signer.SignKey, s.payload, s.signature):
		return fmt.Errorf("the signature does not verify")
	case s.Audience == nil || *s.Audience != audience.FleetID:
		return fmt.Errorf("another audience")
	case s.Kind != kind || s.DocumentID != documentID:
		return fmt.Errorf("another kind or document")
	case !bytes.Equal(s.ContentDigest, digest):
		return fmt.Errorf("another content digest")
	}
	return nil
}

func oneOf(list []string, value string) bool {
	for _, element := range list {
		if element == value {
			return true
		}
	}
	return false
}

func only(text, alphabet string) bool { return strings.Trim(text, alphabet) == "" }

func isFleetID(text string) bool {
	return len(text) == 56 && strings.HasPrefix(text, "tsf1") && only(text[4:], "abcdefghijklmnopqrstuvwxyz234567")
}

// isUUID: lower case, a version of RFC 9562 and its variant (docs/spec/payload.md §1).
func isUUID(text string) bool {
	parts := strings.Split(text, "-")
	if len(parts) != 5 {
		return false
	}
	for i, length := range []int{8, 4, 4, 4, 12} {
		if len(parts[i]) != length || !only(parts[i], "0123456789abcdef") {
			return false
		}
	}
	return only(parts[2][:1], "12345678") && only(parts[3][:1], "89ab")
}
