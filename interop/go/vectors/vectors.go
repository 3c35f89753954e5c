// Package vectors runs docs/spec/vectors/*.json (docs/spec/session.md §11) against package ts1.
package vectors

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"tallystick-interop/ts1"
)

// Report is called once for each check, with nil when it holds.
type Report = func(name string, err error)

// Hex is bytes in a vector; null and absent stay nil.
type Hex []byte

// UnmarshalJSON reads lower-case hex.
func (h *Hex) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err != nil || text == nil {
		return err
	}
	decoded, err := hex.DecodeString(*text)
	*h = append(Hex{}, decoded...)
	return err
}

type party struct {
	IkSecret, IkPublic, CertificateDigest, SignKey, SpkSecret, PqSeed, OpkSecret Hex
	PeerID, FleetID                                                              string
}

func (p *party) identity() *ts1.Party {
	return &ts1.Party{IKSecret: p.IkSecret, IKPublic: p.IkPublic, CertificateDigest: p.CertificateDigest, SignKey: p.SignKey, PeerID: p.PeerID, FleetID: p.FleetID}
}

// prekeysFor is the look-up by the ids of a handshake: an OPK that is not named is not used.
func (p *party) prekeysFor(h *ts1.Handshake) *ts1.Prekeys {
	keys := &ts1.Prekeys{SpkSecret: p.SpkSecret, PqSeed: p.PqSeed}
	if h.OpkID != nil {
		keys.OpkSecret = p.OpkSecret
	}
	return keys
}

type vector struct {
	ID, Comment, Expect, Side, Kind, Op                                                     string
	Initiator, Responder                                                                    party
	Epoch                                                                                   uint32
	Exporter, Bundle, EkSecret, RatchetSecret, Coins, Handshake, Transcript, SID, SK, Bytes Hex
	Reset                                                                                   bool
	Steps                                                                                   []step
	Input, Output                                                                           map[string]Hex
}

type step struct {
	Do, Comment, Expect string
	Envelope, Plaintext Hex
	Now                 int64
	Random              []Hex
}

// Run runs every case of every file of a folder. A file of another format or a case of an unknown kind fails.
func Run(folder string, report Report) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no vectors in %s", folder)
	}
	runners := map[string]func(string, *vector, Report){
		"tallystick/vectors/pqxdh/v1": runPqxdh, "tallystick/vectors/ratchet/v1": runRatchet,
		"tallystick/vectors/envelope/v1": runEnvelope, "tallystick/vectors/primitives/v1": runPrimitive,
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if filepath.Base(path) == "rotation.json" {
			if err := runRotations(data, report); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			continue
		}
		var file struct {
			Format, Suite string
			Cases         []*vector
		}
		if err := json.Unmarshal(data, &file); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		name := filepath.Base(path)
		run, known := runners[file.Format]
		if !known || file.Suite != "TS1" || len(file.Cases) == 0 {
			report(name, fmt.Errorf("format %q, suite %q, %d cases", file.Format, file.Suite, len(file.Cases)))
			continue
		}
		for _, v := range file.Cases {
			run(name+" "+v.ID, v, report)
		}
	}
	return nil
}

func same(what string, got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s is %x, not %x", what, got, want)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func expected(err error, want string) error {
	if code := ts1.CodeOf(err); code != want {
		return fmt.Errorf("gives %s, not %s", code, want)
	}
	return nil
}

func runPqxdh(name string, v *vector, report Report) {
	if v.Side != "both" && v.Side != "initiator" && v.Side != "responder" {
		report(name, fmt.Errorf("unknown side %q", v.Side))
		return
	}
	if v.Side != "responder" {
		report(name+" (initiator)", initiator(v))
	}
	if v.Side != "initiator" {
		report(name+" (responder)", responder(v))
	}
}

func initiator(v *vector) error {
	bundle, err := ts1.DecodeBundle(v.Bundle)
	if err != nil {
		return err
	}
	// A bundle that must be refused comes without randomness; any will do.
	ek, coins := v.EkSecret, v.Coins
	if v.Expect != "ok" {
		ek, coins = bytes.Repeat([]byte{7}, 32), make([]byte, 32)
	}
	handshake, agreed, err := ts1.Initiate(v.Initiator.identity(), v.Responder.identity(), bundle, &ts1.Beginning{Epoch: v.Epoch, Reset: v.Reset, Exporter: v.Exporter, EkSecret: ek, Coins: coins})
	if err != nil || v.Expect != "ok" {
		return expected(err, v.Expect)
	}
	return first(same("handshake", handshake.Encode(), v.Handshake), sameAgreed(agreed, v))
}

func sameAgreed(agreed *ts1.Agreed, v *vector) error {
	return first(same("T", agreed.Transcript, v.Transcript), same("sid", agreed.SID, v.SID), same("SK", agreed.SK, v.SK))
}

func responder(v *vector) error {
	handshake, err := ts1.DecodeHandshake(v.Handshake)
	if err != nil {
		return err
	}
	agreed, err := ts1.Respond(v.Responder.identity(), v.Initiator.identity(), v.Responder.prekeysFor(handshake), handshake, v.Epoch, v.Exporter)
	if err != nil || v.Expect != "ok" {
		return expected(err, v.Expect)
	}
	return sameAgreed(agreed, v)
}

func runRatchet(name string, v *vector, report Report) {
	handshake, err := ts1.DecodeHandshake(v.Handshake)
	if err != nil {
		report(name, err)
		return
	}
	agreed, err := ts1.Respond(v.Responder.identity(), v.Initiator.identity(), v.Responder.prekeysFor(handshake), handshake, v.Epoch, v.Exporter)
	if err != nil {
		report(name, err)
		return
	}
	state := ts1.NewResponder(agreed, handshake, v.Responder.SpkSecret, v.Epoch)
	for i, s := range v.Steps {
		before := fmt.Sprintf("%#v", *state)
		next, err := runStep(state, &s)
		if s.Expect != "ok" && fmt.Sprintf("%#v", *state) != before {
			err = first(err, fmt.Errorf("a refused step has changed the state"))
		}
		report(fmt.Sprintf("%s step %d, %s: %s", name, i, s.Do, s.Comment), err)
		if next != nil {
			state = next
		}
	}
}

func runStep(state *ts1.State, s *step) (*ts1.State, error) {
	switch s.Do {
	case "open":
		envelope, err := ts1.DecodeEnvelope(s.Envelope)
		if err != nil {
			return nil, expected(err, s.Expect)
		}
		next, plaintext, err := state.Open(envelope, s.Now)
		if err != nil || s.Expect != "ok" {
			return nil, expected(err, s.Expect)
		}
		return next, same("plaintext", plaintext, s.Plaintext)
	case "seal":
		taken := 0
		next, envelope, err := state.Seal(s.Plaintext, func() []byte { taken++; return s.Random[taken-1] })
		if err != nil || s.Expect != "ok" {
			return nil, expected(err, s.Expect)
		}
		if taken != len(s.Random) {
			err = fmt.Errorf("%d of %d random values were used", taken, len(s.Random))
		}
		return next, first(err, same("envelope", envelope, s.Envelope))
	}
	return nil, fmt.Errorf("unknown step %q", s.Do)
}

func runEnvelope(name string, v *vector, report Report) {
	var again []byte
	var err error
	switch v.Kind {
	case "envelope":
		var e *ts1.Envelope
		if e, err = ts1.DecodeEnvelope(v.Bytes); err == nil {
			// The parts too, each from its fields.
			parts := same("header", e.Header.Encode(), e.HeaderBytes)
			if e.Handshake != nil {
				parts = first(parts, same("handshake", e.Handshake.Encode(), e.HandshakeBytes))
			}
			if parts != nil {
				report(name, parts)
				return
			}
			again = e.Encode()
		}
	case "bundle":
		var b *ts1.Bundle
		if b, err = ts1.DecodeBundle(v.Bytes); err == nil {
			again = b.Encode()
		}
	default:
		report(name, fmt.Errorf("unknown kind %q", v.Kind))
		return
	}
	if err != nil || v.Expect != "ok" {
		report(name, expected(err, v.Expect))
		return
	}
	report(name, same("encoding", again, v.Bytes))
}

func runPrimitive(name string, v *vector, report Report) {
	in, out := v.Input, map[string]Hex{}
	var err error
	switch v.Op {
	case "kdfRoot":
		root, chain, exporter := ts1.KDFRoot(in["root"], in["dh"])
		out["root"], out["chain"], out["exporter"] = root, chain, exporter
	case "kdfChain":
		chain, messageKey := ts1.KDFChain(in["chain"])
		out["chain"], out["messageKey"] = chain, messageKey
	case "sealMessage":
		var ciphertext, commit []byte
		ciphertext, commit, err = ts1.SealMessage(in["messageKey"], in["salt"], in["aad"], in["plaintext"])
		out["ciphertext"], out["commit"] = ciphertext, commit
		if err == nil {
			var plaintext []byte
			plaintext, err = ts1.OpenMessage(in["messageKey"], in["salt"], in["aad"], ciphertext, commit)
			err = first(err, same("plaintext", plaintext, in["plaintext"]))
		}
	case "openMessage":
		var plaintext []byte
		plaintext, err = ts1.OpenMessage(in["messageKey"], in["salt"], in["aad"], in["ciphertext"], in["commit"])
		out["plaintext"] = plaintext
	default:
		err = fmt.Errorf("unknown op %q", v.Op)
	}
	if err != nil || v.Expect != "ok" {
		report(name, expected(err, v.Expect))
		return
	}
	if len(v.Output) != len(out) {
		err = fmt.Errorf("%d outputs, not %d", len(out), len(v.Output))
	}
	for field, want := range v.Output {
		err = first(err, same(field, out[field], want))
	}
	report(name, err)
}
