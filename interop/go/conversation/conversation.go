package conversation

import (
	"bytes"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"

	"tallystick-interop/ts1"
)

// Setting says who begins, and with which prekeys.
type Setting struct {
	GoBegins, Opk bool
	Kind          string
	Seed          uint64
}

func (s Setting) String() string {
	who, opk := "the product begins", "no one-time X25519 prekey"
	if s.GoBegins {
		who = "Go begins"
	}
	if s.Opk {
		opk = "one-time X25519 prekey"
	}
	return fmt.Sprintf("%s, %s KEM prekey, %s", who, s.Kind, opk)
}

// Settings are all that Run is called with.
func Settings() (list []Setting) {
	for i := range 8 {
		list = append(list, Setting{GoBegins: i&1 == 0, Opk: i&2 == 0, Kind: []string{"one-time", "last-resort"}[i>>2], Seed: uint64(i)})
	}
	return list
}

const (
	epochs = 4
	// resetEpoch starts over, the others continue the one before.
	resetEpoch = 3
	actions    = 160
	longTalk   = 1_700_000_000_000
)

// travelling is an envelope on its way; sent is what its receiver must read.
type travelling struct {
	epoch          int
	envelope, sent []byte
	opened         bool
}

type talk struct {
	*product
	Setting
	random   *rand.Rand
	self     ts1.Party
	peer     ts1.Party
	prekeys  ts1.Prekeys
	own, its *ts1.Bundle
	peerJSON message
	// sessions are this side's, the session of epoch 1 first.
	sessions  []*ts1.Session
	toProduct []*travelling
	toGo      []*travelling
	// Delivered, Refused count what happened.
	delivered, refused int
}

// Run holds one conversation over four epochs: messages of many sizes that come late, twice, never or changed, in both
// directions, two rotations and a reset between the epochs. Nothing may open that was not sent; everything else must.
func Run(node, script string, setting Setting) (summary string, err error) {
	p, err := start(node, script)
	if err != nil {
		return "", err
	}
	t := &talk{product: p, Setting: setting, random: rand.New(rand.NewPCG(setting.Seed, 1))}
	err = t.hold()
	return fmt.Sprintf("%d messages opened, %d refused", t.delivered, t.refused), errors.Join(err, p.close())
}

func (t *talk) bytes(length int) []byte {
	out := make([]byte, length)
	for i := range out {
		out[i] = byte(t.random.Uint32())
	}
	return out
}

func (t *talk) hold() error {
	if err := t.meet(); err != nil {
		return err
	}
	for epoch := 1; epoch <= epochs; epoch++ {
		goBegins := t.GoBegins == (epoch%2 == 1)
		if err := t.begin(epoch, goBegins); err != nil {
			return fmt.Errorf("epoch %d: %w", epoch, err)
		}
		for range actions {
			if err := t.act(epoch); err != nil {
				return fmt.Errorf("epoch %d: %w", epoch, err)
			}
		}
		// A rotation needs an exporter of a step that its initiator received: a message each way makes one.
		for _, fromGo := range []bool{goBegins, !goBegins, goBegins, !goBegins} {
			if err := errors.Join(t.send(epoch, fromGo), t.deliver(!fromGo, -1)); err != nil {
				return fmt.Errorf("end of epoch %d: %w", epoch, err)
			}
		}
	}
	return t.deliverAll()
}

func (t *talk) meet() error {
	signing := ed25519.NewKeyFromSeed(t.bytes(32))
	certificate := t.bytes(600)
	digest := sha256.Sum256(certificate)
	ik, opk := t.bytes(32), t.bytes(32)
	t.prekeys = ts1.Prekeys{SpkSecret: t.bytes(32), PqSeed: t.bytes(64), OpkSecret: opk}
	t.self = ts1.Party{IKSecret: ik, IKPublic: ts1.PublicOf(ik), CertificateDigest: digest[:], SignKey: signing.Public().(ed25519.PublicKey), PeerID: "peer-go", FleetID: "fleet-gö"}
	kem, err := mlkem.NewDecapsulationKey1024(t.prekeys.PqSeed)
	if err != nil {
		return err
	}
	var oneTime *ts1.Prekey
	if t.Opk {
		oneTime = &ts1.Prekey{ID: 0, Key: ts1.PublicOf(opk)}
	}
	t.own = ts1.SignBundle(func(message []byte) []byte { return ed25519.Sign(signing, message) }, certificate,
		ts1.Prekey{ID: 300, Key: ts1.PublicOf(t.prekeys.SpkSecret)}, ts1.Prekey{ID: 2, Key: kem.EncapsulationKey().Bytes(), Kind: t.Kind}, oneTime)
	t.peerJSON = message{"signKey": hex.EncodeToString(t.self.SignKey), "dhPublic": hex.EncodeToString(t.self.IKPublic), "certificateDigest": hex.EncodeToString(digest[:]), "peerId": t.self.PeerID, "fleetId": t.self.FleetID}
	other, err := t.ask(message{"op": "identity", "kind": t.Kind, "opk": t.Opk})
	if err != nil {
		return err
	}
	t.peer = ts1.Party{IKPublic: unhex(other.DhPublic), CertificateDigest: unhex(other.CertificateDigest), SignKey: unhex(other.SignKey), PeerID: other.PeerID, FleetID: other.FleetID}
	t.its, err = ts1.DecodeBundle(unhex(other.Bundle))
	return err
}

func (t *talk) state(epoch int) *ts1.State { return t.sessions[epoch-1].State }

func (t *talk) begin(number int, goBegins bool) error {
	epoch, reset := uint32(number), number == resetEpoch
	if goBegins {
		b := &ts1.Beginning{Epoch: epoch, Reset: reset, EkSecret: t.bytes(32), Coins: t.bytes(32)}
		if number > 1 {
			next, exporter, err := ts1.NextEpoch(t.sessions, reset, nil)
			if err != nil {
				return err
			}
			b.Epoch, b.Exporter = next, exporter
		}
		handshake, agreed, err := ts1.Initiate(&t.self, &t.peer, t.its, b)
		if err != nil {
			return err
		}
		state, err := ts1.NewInitiator(agreed, handshake, t.its.Spk.Key, t.bytes(32), epoch)
		if err != nil {
			return err
		}
		t.sessions = append(t.sessions, &ts1.Session{Epoch: epoch, Own: true, State: state})
		_, err = t.ask(message{"op": "respond", "epoch": number, "peer": t.peerJSON, "handshake": hex.EncodeToString(handshake.Encode())})
		return err
	}
	made, err := t.ask(message{"op": "initiate", "epoch": number, "reset": reset, "peer": t.peerJSON, "bundle": hex.EncodeToString(t.own.Encode())})
	if err != nil {
		return err
	}
	handshake, err := ts1.DecodeHandshake(unhex(made.Handshake))
	if err != nil {
		return err
	}
	exporter, err := ts1.SaltFor(t.sessions, handshake, epoch)
	if err != nil {
		return err
	}
	keys := t.prekeys
	if handshake.OpkID == nil {
		keys.OpkSecret = nil
	}
	agreed, err := ts1.Respond(&t.self, &t.peer, &keys, handshake, epoch, exporter)
	if err != nil {
		return err
	}
	t.sessions = append(t.sessions, &ts1.Session{Epoch: epoch, State: ts1.NewResponder(agreed, handshake, keys.SpkSecret, epoch)})
	return nil
}

func (t *talk) act(epoch int) error {
	fromGo := t.random.IntN(2) == 0
	if t.random.IntN(5) < 2 {
		err := t.send(epoch, fromGo)
		if ts1.CodeOf(err) == "Encryption" {
			return nil // a responder that has received nothing yet
		}
		return err
	}
	queue := &t.toProduct
	if !fromGo {
		queue = &t.toGo
	}
	if len(*queue) == 0 {
		return nil
	}
	at := t.random.IntN(len(*queue))
	if t.random.IntN(3) == 0 {
		return t.deliverChanged(!fromGo, (*queue)[at])
	}
	return t.deliver(!fromGo, at)
}

func (t *talk) send(epoch int, fromGo bool) error {
	plaintext := t.bytes([]int{0, 1, 1019, 1020, 1021, 5000, 32764, 32765, 70000}[t.random.IntN(9)])
	m := &travelling{epoch: epoch, sent: plaintext}
	if fromGo {
		next, envelope, err := t.state(epoch).Seal(plaintext, func() []byte { return t.bytes(32) })
		if err != nil {
			return err
		}
		t.sessions[epoch-1].State, m.envelope = next, envelope
		t.toProduct = append(t.toProduct, m)
		return nil
	}
	made, err := t.ask(message{"op": "encrypt", "epoch": epoch, "plaintext": hex.EncodeToString(plaintext)})
	if err != nil {
		return err
	}
	m.envelope = unhex(made.Envelope)
	t.toGo = append(t.toGo, m)
	return nil
}

func (t *talk) open(atGo bool, epoch int, envelope []byte) ([]byte, error) {
	if !atGo {
		opened, err := t.ask(message{"op": "decrypt", "epoch": epoch, "envelope": hex.EncodeToString(envelope), "now": longTalk})
		if err != nil {
			return nil, err
		}
		return unhex(opened.Plaintext), nil
	}
	decoded, err := ts1.DecodeEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	next, plaintext, err := t.state(epoch).Open(decoded, longTalk)
	if err != nil {
		return nil, err
	}
	t.sessions[epoch-1].State = next
	return plaintext, nil
}

// deliver gives a message to its receiver, -1 the newest. What was opened before must be refused now.
func (t *talk) deliver(atGo bool, at int) error {
	queue := &t.toProduct
	if atGo {
		queue = &t.toGo
	}
	if at < 0 {
		at = len(*queue) - 1
	}
	m := (*queue)[at]
	plaintext, err := t.open(atGo, m.epoch, m.envelope)
	if m.opened {
		t.refused++
		if code := ts1.CodeOf(err); code != "DuplicateMessage" && code != "Decryption" {
			return fmt.Errorf("a message opened twice: %s", code)
		}
		*queue = append((*queue)[:at:at], (*queue)[at+1:]...)
		return nil
	}
	if err != nil {
		return fmt.Errorf("message of %d bytes (at Go: %t): %w", len(m.sent), atGo, err)
	}
	if !bytes.Equal(plaintext, m.sent) {
		return errors.New("another plaintext than was sent")
	}
	m.opened = true
	t.delivered++
	return nil
}

// deliverChanged flips one bit anywhere in the envelope. That must not open, and must leave the message openable.
func (t *talk) deliverChanged(atGo bool, m *travelling) error {
	changed := bytes.Clone(m.envelope)
	changed[t.random.IntN(len(changed))] ^= 1 << t.random.IntN(8)
	t.refused++
	if _, err := t.open(atGo, m.epoch, changed); err == nil {
		return errors.New("a changed envelope was opened")
	} else if refusal := new(ts1.Refusal); !errors.As(err, &refusal) {
		return err
	}
	return nil
}

func (t *talk) deliverAll() error {
	for _, atGo := range []bool{true, false} {
		queue := t.toProduct
		if atGo {
			queue = t.toGo
		}
		for _, m := range queue {
			if m.opened {
				continue
			}
			plaintext, err := t.open(atGo, m.epoch, m.envelope)
			if err != nil || !bytes.Equal(plaintext, m.sent) {
				return fmt.Errorf("a late message of epoch %d (at Go: %t): %w", m.epoch, atGo, err)
			}
			t.delivered++
		}
	}
	return nil
}
