package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"lukechampine.com/blake3"

	"tallystick-interop/cbor"
	"tallystick-interop/ts1"
)

// Check is one line of the result; Err is nil when it holds.
type Check struct {
	Name string
	Err  error
}

// Result is what a file amounts to.
type Result struct {
	Checks            []Check
	Missing           []string
	Sender, Recipient *Certificate
	Kind, DocumentID  string
	Verdicts          []string
}

// OK says whether every check holds.
func (r *Result) OK() bool {
	for _, check := range r.Checks {
		if check.Err != nil {
			return false
		}
	}
	return true
}

func (r *Result) add(err error, name string, args ...any) bool {
	r.Checks = append(r.Checks, Check{fmt.Sprintf(name, args...), err})
	return err == nil
}

func contentDigest(body []byte) []byte {
	digest := blake3.Sum256(body)
	return digest[:]
}

func unless(holds bool, problem string) error {
	if holds {
		return nil
	}
	return errors.New(problem)
}

// Verify makes every check of docs/spec/evidence.md §3 for which the file has what it needs.
func Verify(data []byte) *Result {
	r := &Result{}
	f, err := parse(data)
	if !r.add(err, "format") {
		return r
	}
	r.Kind, r.DocumentID = f.kind, f.documentID
	for _, part := range []struct {
		name  string
		there bool
	}{{"receipt", f.receipt != nil}, {"verdicts", len(f.verdicts) > 0}, {"sender.log", f.sender.log != nil}, {"recipient.log", f.recipient.log != nil}} {
		if !part.there {
			r.Missing = append(r.Missing, part.name)
		}
	}

	r.add(unless(bytes.Equal(contentDigest(f.body), f.digest), "not the digest of the body"), "document.digest")
	statement, err := ReadStatement(f.statement)
	if !r.add(err, "document.form") {
		return r
	}
	r.Sender = r.certificate("sender", f.sender.certificate, statement.IssuedAt)
	r.Recipient = r.certificate("recipient", f.recipient.certificate, statement.IssuedAt)
	if r.Sender == nil || r.Recipient == nil {
		return r
	}
	r.add(statement.check(r.Sender, r.Recipient, f.kind, f.documentID, f.digest), "document.statement")
	if f.receipt != nil {
		r.add(receiptNames(f.receipt.body, f.receipt.messageID, f.digest), "receipt")
	}
	verdictDigests := r.verdicts(f, statement)
	aboutDocument, aboutVerdicts := subject{f.kind, [][]byte{f.digest}}, subject{"verdict", verdictDigests}
	r.log("sender", f.sender.log, r.Sender, r.Recipient, map[string]subject{"MessageSent": aboutDocument, "MessageReceived": aboutVerdicts})
	r.log("recipient", f.recipient.log, r.Recipient, r.Sender, map[string]subject{"MessageReceived": aboutDocument, "MessageSent": aboutVerdicts})
	return r
}

func (r *Result) certificate(name string, data []byte, at uint64) *Certificate {
	certificate, err := ReadCertificate(data)
	if err == nil {
		err = certificate.validAt(at)
	}
	if !r.add(err, "%s.certificate", name) {
		return nil
	}
	return certificate
}

func receiptNames(body []byte, messageID string, digest []byte) error {
	f := cbor.Open(body, cbor.Limits{MaxBytes: maxReceiptBytes, MaxDepth: 3, MaxItems: 10_000})
	items := f.List("items")
	if f.Has("checkpoint") && units(f.Text("checkpoint")) > maxNote {
		return errors.New("a long checkpoint")
	}
	if err := f.Done(); err != nil {
		return err
	}
	if len(items) < 1 || len(items) > 256 {
		return fmt.Errorf("%d items", len(items))
	}
	named := false
	for _, element := range items {
		item := cbor.FieldsOf(element)
		id, of, status := item.Text("messageId"), item.Bytes("contentDigest", 32, 32), item.Text("status")
		item.Uint("at", maxSafe)
		if err := item.Done(); err != nil {
			return err
		}
		if !isUUID(id) || status != "stored" && status != "duplicate" {
			return errors.New("item of a receipt")
		}
		named = named || id == messageID && bytes.Equal(of, digest)
	}
	return unless(named, "does not name this message with this digest")
}

func (r *Result) verdicts(f *file, document *Statement) (digests [][]byte) {
	for i, v := range f.verdicts {
		verdict, err := readVerdict(v.body, f.documentID, f.digest)
		r.add(err, "verdict[%d].body", i)
		digest := contentDigest(v.body)
		digests = append(digests, digest)
		statement, err := ReadStatement(v.statement)
		if err == nil {
			err = statement.check(r.Recipient, r.Sender, "verdict", f.documentID, digest)
		}
		if err == nil {
			err = r.Recipient.validAt(statement.IssuedAt)
		}
		if err == nil && statement.IssuedAt+skew < document.IssuedAt {
			err = errors.New("before the document")
		}
		r.add(err, "verdict[%d].statement", i)
		r.Verdicts = append(r.Verdicts, verdict)
	}
	return digests
}

func readVerdict(body []byte, documentID string, digest []byte) (string, error) {
	f := cbor.Open(body, cbor.Limits{MaxBytes: maxVerdictBytes, MaxDepth: 1, MaxItems: 32})
	id, of, verdict := f.Text("documentId"), f.Bytes("contentDigest", 32, 32), f.Text("verdict")
	if f.Has("code") {
		if code := f.Text("code"); code == "" || len(code) > 32 || strings.ContainsFunc(code, notInCode) {
			return "", errors.New("code of a verdict")
		}
	}
	if f.Has("note") {
		if note := f.Text("note"); note == "" || units(note) > 2000 || !visible(strings.ReplaceAll(note, "\n", "")) {
			return "", errors.New("note of a verdict")
		}
	}
	f.Uint("at", maxSafe)
	if err := f.Done(); err != nil {
		return "", err
	}
	if !oneOf([]string{"accepted", "rejected", "disputed", "paid"}, verdict) {
		return "", fmt.Errorf("verdict %q", verdict)
	}
	return verdict, unless(id == documentID && bytes.Equal(of, digest), "about another document")
}

func notInCode(r rune) bool {
	return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
}

// subject is what a leaf of one type may be about: a kind of document, and the digests of that kind in the file.
type subject struct {
	kind    string
	digests [][]byte
}

// log checks one side's entries; wanted is the subject of each type of leaf. What needs a part that failed is not checked.
func (r *Result) log(name string, l *logPart, own, other *Certificate, wanted map[string]subject) {
	if l == nil {
		return
	}
	key := r.add(unless(l.vkey == own.Vkey(), "not the log key of the certificate"), "%s.log.key", name)
	roots := map[uint64][]byte{}
	for i, e := range l.entries {
		r.add(commitment(e, own, other, wanted), "%s.log[%d].commitment", name, i)
		if !key {
			continue
		}
		root, err := checkpoint(e.note, own, e.size)
		if earlier, seen := roots[e.size]; err == nil && seen {
			err = unless(bytes.Equal(earlier, root), "two roots of one size")
		}
		if !r.add(err, "%s.log[%d].checkpoint", name, i) {
			continue
		}
		roots[e.size] = root
		hasher := rfc6962.DefaultHasher
		r.add(proof.VerifyInclusion(hasher, e.index, e.size, hasher.HashLeaf(e.leaf), e.proof, root), "%s.log[%d].inclusion", name, i)
	}
}

func commitment(e logEntry, own, other *Certificate, wanted map[string]subject) error {
	f := cbor.Open(e.leaf, cbor.Limits{MaxBytes: maxLeafBytes, MaxDepth: 2, MaxItems: 64})
	id, actor := f.Text("eventId"), f.Text("actor")
	f.Uint("at", maxSafe)
	stream, event := f.Text("stream"), f.Text("type")
	body := cbor.FieldsOf(f.Any("body"))
	if err := f.Done(); err != nil {
		return err
	}
	peer, committed := body.Text("peer"), body.Text("commitment")
	kind := body.Text("kind")
	message := body.Text("messageId")
	if err := body.Done(); err != nil {
		return err
	}
	if !isUUID(id) || !isUUID(message) || actor != own.FleetID && !isService(actor) {
		return errors.New("event id, message id or actor")
	}
	if stream != "sharing" || peer != other.FleetID {
		return errors.New("another stream or fleet")
	}
	if kind != wanted[event].kind {
		return fmt.Errorf("a %s about a document of kind %q", event, kind)
	}
	for _, digest := range wanted[event].digests {
		opened := sha256.Sum256(append(bytes.Clone(e.salt), digest...))
		if hex.EncodeToString(opened[:]) == committed {
			return nil
		}
	}
	return fmt.Errorf("does not open to what a %s of this side may be about", event)
}

// isService says whether an actor is a service name (docs/spec/audit-log.md §2).
func isService(actor string) bool {
	name, found := strings.CutSuffix(actor, "-svc")
	return found && len(name) >= 1 && len(name) <= 16 && only(name, "abcdefghijklmnopqrstuvwxyz")
}

// strictVerifier is a note.Verifier with the signature rule of docs/spec/session.md §1.2.
type strictVerifier struct {
	note.Verifier
	key []byte
}

func (v strictVerifier) Verify(message, signature []byte) bool {
	return ts1.Verify(v.key, message, signature)
}

// checkpoint opens a C2SP tlog-checkpoint of this log and size and gives its root.
func checkpoint(text string, own *Certificate, size uint64) ([]byte, error) {
	verifier, err := note.NewVerifier(own.Vkey())
	if err != nil {
		return nil, err
	}
	opened, err := note.Open([]byte(text), note.VerifierList(strictVerifier{verifier, own.LogKey}))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(opened.Text, "\n"), "\n")
	if len(lines) < 3 || lines[0] != own.Origin() {
		return nil, errors.New("a note of another log")
	}
	if lines[1] != strconv.FormatUint(size, 10) {
		return nil, errors.New("another size")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return nil, errors.New("no root")
	}
	for _, extension := range lines[3:] {
		if extension == "" {
			return nil, errors.New("an empty extension line")
		}
	}
	return root, nil
}
