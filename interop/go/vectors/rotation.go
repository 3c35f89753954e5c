package vectors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"tallystick-interop/ts1"
)

type earlierSession struct {
	Epoch                                             uint32
	Began                                             string
	GivenUp                                           bool
	Handshake, Bundle, EkSecret, RatchetSecret, Coins Hex
	Steps                                             []step
}

type rotation struct {
	ID, Comment, Expect, Do, Winner                                                                       string
	Sessions                                                                                              []string
	Envelope, Plaintext, Bundle, EkSecret, RatchetSecret, Coins, Handshake, Exporter, Transcript, SID, SK Hex
	Now                                                                                                   int64
	Epoch                                                                                                 uint32
	Reset                                                                                                 bool
	Ours, Theirs                                                                                          struct {
		Epoch     uint32
		Handshake Hex
	}
}

type rotationFile struct {
	Format, Suite string
	Self, Peer    party
	Earlier       map[string]*earlierSession
	Cases         []*rotation
}

func runRotations(data []byte, report Report) error {
	var file rotationFile
	if err := json.Unmarshal(data, &file); err != nil {
		return err
	}
	if file.Format != "tallystick/vectors/rotation/v1" || file.Suite != "TS1" || len(file.Cases) == 0 {
		return fmt.Errorf("format %q, suite %q, %d cases", file.Format, file.Suite, len(file.Cases))
	}
	for _, c := range file.Cases {
		report(fmt.Sprintf("rotation.json %s: %s", c.ID, c.Comment), file.run(c))
	}
	return nil
}

func (file *rotationFile) run(c *rotation) error {
	var sessions []*ts1.Session
	for _, name := range c.Sessions {
		session, err := file.play(file.Earlier[name])
		if err != nil {
			return fmt.Errorf("session %s: %w", name, err)
		}
		sessions = append(sessions, session)
	}
	switch c.Do {
	case "answer":
		return file.answer(c, sessions)
	case "begin":
		return file.begin(c, sessions)
	case "cross":
		return cross(c)
	}
	return fmt.Errorf("unknown %q", c.Do)
}

// play makes an earlier session and runs its steps.
func (file *rotationFile) play(e *earlierSession) (*ts1.Session, error) {
	if e == nil {
		return nil, errors.New("not in the file")
	}
	s := &ts1.Session{Epoch: e.Epoch, Own: e.Began == "self", GivenUp: e.GivenUp}
	handshake, err := ts1.DecodeHandshake(e.Handshake)
	if err != nil {
		return nil, err
	}
	if s.Own {
		bundle, err := ts1.DecodeBundle(e.Bundle)
		if err != nil {
			return nil, err
		}
		made, agreed, err := ts1.Initiate(file.Self.identity(), file.Peer.identity(), bundle, &ts1.Beginning{Epoch: e.Epoch, EkSecret: e.EkSecret, Coins: e.Coins})
		if err != nil {
			return nil, err
		}
		if err := same("handshake", made.Encode(), e.Handshake); err != nil {
			return nil, err
		}
		if s.State, err = ts1.NewInitiator(agreed, made, bundle.Spk.Key, e.RatchetSecret, e.Epoch); err != nil {
			return nil, err
		}
	} else {
		agreed, err := ts1.Respond(file.Self.identity(), file.Peer.identity(), file.Self.prekeysFor(handshake), handshake, e.Epoch, nil)
		if err != nil {
			return nil, err
		}
		s.State = ts1.NewResponder(agreed, handshake, file.Self.SpkSecret, e.Epoch)
	}
	for i := range e.Steps {
		next, err := runStep(s.State, &e.Steps[i])
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
		s.State = next
	}
	return s, nil
}

func (c *rotation) results(h *ts1.Handshake, exporter []byte, agreed *ts1.Agreed, epoch uint32) error {
	if epoch != c.Epoch {
		return fmt.Errorf("epoch %d, not %d", epoch, c.Epoch)
	}
	return first(same("handshake", h.Encode(), c.Handshake), same("exporter", exporter, c.Exporter),
		same("T", agreed.Transcript, c.Transcript), same("sid", agreed.SID, c.SID), same("SK", agreed.SK, c.SK))
}

func (file *rotationFile) answer(c *rotation, sessions []*ts1.Session) error {
	before := stateOf(sessions)
	opened, err := file.open(c, sessions)
	if stateOf(sessions) != before {
		return errors.New("an earlier session has changed")
	}
	if err != nil || c.Expect != "ok" {
		return expected(err, c.Expect)
	}
	return same("plaintext", opened, c.Plaintext)
}

func (file *rotationFile) open(c *rotation, sessions []*ts1.Session) ([]byte, error) {
	envelope, err := ts1.DecodeEnvelope(c.Envelope)
	if err != nil {
		return nil, err
	}
	h, epoch := envelope.Handshake, envelope.Header.Epoch
	exporter, err := ts1.SaltFor(sessions, h, epoch)
	if err != nil {
		return nil, err
	}
	agreed, err := ts1.Respond(file.Self.identity(), file.Peer.identity(), file.Self.prekeysFor(h), h, epoch, exporter)
	if err != nil {
		return nil, err
	}
	_, plaintext, err := ts1.NewResponder(agreed, h, file.Self.SpkSecret, epoch).Open(envelope, c.Now)
	if err == nil && c.Expect == "ok" {
		err = c.results(h, exporter, agreed, epoch)
	}
	return plaintext, err
}

func (file *rotationFile) begin(c *rotation, sessions []*ts1.Session) error {
	bundle, err := ts1.DecodeBundle(c.Bundle)
	if err != nil {
		return err
	}
	epoch, exporter, err := ts1.NextEpoch(sessions, c.Reset, bundle.Epoch)
	if err != nil || c.Expect != "ok" {
		return expected(err, c.Expect)
	}
	h, agreed, err := ts1.Initiate(file.Self.identity(), file.Peer.identity(), bundle,
		&ts1.Beginning{Epoch: epoch, Reset: c.Reset, Exporter: exporter, EkSecret: c.EkSecret, Coins: c.Coins})
	if err != nil {
		return err
	}
	return c.results(h, exporter, agreed, epoch)
}

func cross(c *rotation) error {
	ours, err := ts1.DecodeHandshake(c.Ours.Handshake)
	if err != nil {
		return err
	}
	theirs, err := ts1.DecodeHandshake(c.Theirs.Handshake)
	if err != nil {
		return err
	}
	if wins := ts1.Wins(ours, theirs, c.Ours.Epoch, c.Theirs.Epoch); wins != (c.Winner == "ours") || bytes.Equal(ours.EK, theirs.EK) {
		return fmt.Errorf("ours wins: %t, not %s", wins, c.Winner)
	}
	return nil
}

func stateOf(sessions []*ts1.Session) (text string) {
	for _, s := range sessions {
		text += fmt.Sprintf("%#v\n", *s.State)
	}
	return text
}
