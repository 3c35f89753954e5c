package ts1

import (
	"bytes"
	"math"
)

const (
	maxSkip    = 1000
	maxKept    = 1000
	maxKeptAge = 14 * 24 * 60 * 60 * 1000
	exporters  = 4
)

type keptKey struct {
	dh, key []byte
	n       uint32
	at      int64
}

// Exporter is one of §5.1's, with the direction of the step that made it.
type Exporter struct {
	Value    []byte
	Received bool
}

// State is a session (§5). Slices of a state are never written to, so that a shallow copy is a copy.
type State struct {
	root, ownSecret, ownPublic, peerKey, sending, receiving []byte
	ns, nr, pn, epoch                                       uint32
	kept                                                    []keptKey
	exporters                                               []Exporter
	transcript, sid                                         []byte
	initiator, confirmed                                    bool
	sent                                                    uint64
	handshake                                               []byte
}

// NewInitiator is §4 for A: it makes A's ratchet key pair and the first sending chain.
func NewInitiator(agreed *Agreed, handshake *Handshake, spk, ratchetSecret []byte, epoch uint32) (*State, error) {
	s := &State{root: agreed.SK, peerKey: spk, transcript: agreed.Transcript, sid: agreed.SID, epoch: epoch, initiator: true, handshake: handshake.Encode()}
	return s, s.beginChain(ratchetSecret)
}

// NewResponder is §4 for B.
func NewResponder(agreed *Agreed, handshake *Handshake, spkSecret []byte, epoch uint32) *State {
	return &State{root: agreed.SK, ownSecret: spkSecret, ownPublic: PublicOf(spkSecret), transcript: agreed.Transcript, sid: agreed.SID, epoch: epoch, handshake: handshake.Encode()}
}

func (s *State) addExporter(value []byte, received bool) {
	list := append(append([]Exporter{}, s.exporters...), Exporter{value, received})
	s.exporters = list[max(0, len(list)-exporters):]
}

func (s *State) beginChain(ratchetSecret []byte) error {
	agreed, err := Agree(ratchetSecret, s.peerKey)
	if err != nil {
		return err
	}
	var exporter []byte
	s.root, s.sending, exporter = KDFRoot(s.root, agreed)
	s.ownSecret, s.ownPublic, s.ns = ratchetSecret, PublicOf(ratchetSecret), 0
	s.addExporter(exporter, false)
	return nil
}

// Seal is §5.3; random gives 32 bytes at each call.
func (s *State) Seal(plaintext []byte, random func() []byte) (*State, []byte, error) {
	next := *s
	if next.sending == nil {
		if next.peerKey == nil {
			return nil, nil, refusal("Encryption", "nothing received yet")
		}
		if err := next.beginChain(random()); err != nil {
			return nil, nil, err
		}
	}
	if next.ns == math.MaxUint32 {
		return nil, nil, refusal("EpochExpired", "the chain is used up")
	}
	var messageKey []byte
	next.sending, messageKey = KDFChain(next.sending)
	header := Header{SID: s.sid, Epoch: s.epoch, DH: next.ownPublic, PN: next.pn, N: next.ns, Salt: random()}
	e := &Envelope{HeaderBytes: header.Encode()}
	if s.initiator && !s.confirmed {
		e.HandshakeBytes = s.handshake
	}
	var err error
	if e.Ciphertext, e.Commit, err = SealMessage(messageKey, header.Salt, concat(s.transcript, e.HeaderBytes, e.HandshakeBytes), plaintext); err != nil {
		return nil, nil, err
	}
	next.ns++
	next.sent++
	return &next, e.Encode(), nil
}

// Open is §5.4. On an error nothing has changed: the new state is another value.
func (s *State) Open(e *Envelope, now int64) (*State, []byte, error) {
	h := &e.Header
	if !bytes.Equal(h.SID, s.sid) || h.Epoch != s.epoch || h.N == math.MaxUint32 {
		return nil, nil, refusal("Decryption", "not of this session")
	}
	if e.HandshakeBytes != nil && (s.initiator || !bytes.Equal(e.HandshakeBytes, s.handshake)) {
		return nil, nil, refusal("Decryption", "not the handshake of this session")
	}
	next := *s
	messageKey, put, err := next.keyFor(h)
	if err != nil {
		return nil, nil, err
	}
	plaintext, err := OpenMessage(messageKey, h.Salt, concat(s.transcript, e.HeaderBytes, e.HandshakeBytes), e.Ciphertext, e.Commit)
	if err != nil {
		return nil, nil, err
	}
	next.keep(put, now)
	next.confirmed = true
	return &next, plaintext, nil
}

// keyFor finds or derives the message key on a copy and gives the keys to put aside.
func (s *State) keyFor(h *Header) (key []byte, put []keptKey, err error) {
	for i, kept := range s.kept {
		if kept.n == h.N && bytes.Equal(kept.dh, h.DH) {
			s.kept = append(append([]keptKey{}, s.kept[:i]...), s.kept[i+1:]...)
			return kept.key, nil, nil
		}
	}
	step := s.peerKey == nil || !bytes.Equal(h.DH, s.peerKey)
	if !step {
		if s.receiving == nil {
			return nil, nil, refusal("Decryption", "no receiving chain")
		}
		if h.N < s.nr {
			return nil, nil, refusal("DuplicateMessage", "used before")
		}
		if h.N-s.nr > maxSkip {
			return nil, nil, refusal("TooManySkipped", "too far ahead")
		}
		key, put = s.advance(h.N)
		return key, put, nil
	}
	if s.ownSecret == nil || h.PN < s.nr || s.receiving == nil && h.PN != 0 {
		return nil, nil, refusal("Decryption", "no step is possible")
	}
	if uint64(h.PN-s.nr)+uint64(h.N) > maxSkip {
		return nil, nil, refusal("TooManySkipped", "too far ahead")
	}
	if s.receiving != nil {
		put = s.skipTo(h.PN)
	}
	agreed, err := Agree(s.ownSecret, h.DH)
	if err != nil {
		return nil, nil, refusal("Decryption", err.Error())
	}
	var exporter []byte
	s.root, s.receiving, exporter = KDFRoot(s.root, agreed)
	s.addExporter(exporter, true)
	s.peerKey, s.nr, s.pn = h.DH, 0, s.ns
	s.ownSecret, s.ownPublic, s.sending, s.ns = nil, nil, nil, 0
	key, more := s.advance(h.N)
	return key, append(put, more...), nil
}

func (s *State) skipTo(n uint32) (put []keptKey) {
	for ; s.nr < n; s.nr++ {
		var key []byte
		s.receiving, key = KDFChain(s.receiving)
		put = append(put, keptKey{dh: s.peerKey, key: key, n: s.nr})
	}
	return put
}

func (s *State) advance(n uint32) (key []byte, put []keptKey) {
	put = s.skipTo(n)
	s.receiving, key = KDFChain(s.receiving)
	s.nr++
	return key, put
}

func (s *State) keep(put []keptKey, now int64) {
	list := append([]keptKey{}, s.kept...)
	for _, key := range put {
		key.at = now
		list = append(list, key)
	}
	list = list[max(0, len(list)-maxKept):]
	s.kept = nil
	for _, key := range list {
		if now-key.at <= maxKeptAge {
			s.kept = append(s.kept, key)
		}
	}
}

// NewestReceived is the exporter that salts a rotation by this side (§7), nil before anything was received.
func (s *State) NewestReceived() (newest []byte) {
	for _, exporter := range s.exporters {
		if exporter.Received {
			newest = exporter.Value
		}
	}
	return newest
}

// ExporterNamed is the exporter that a handshake names, nil when it is not among the last four.
func (s *State) ExporterNamed(name []byte) []byte {
	for _, exporter := range s.exporters {
		if bytes.Equal(continuityOf(exporter.Value), name) {
			return exporter.Value
		}
	}
	return nil
}
