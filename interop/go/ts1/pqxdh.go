package ts1

import (
	"bytes"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
)

// Party is what both sides know of a fleet, and the private half of its own identity key on its own side.
type Party struct {
	IKSecret, IKPublic, CertificateDigest, SignKey []byte
	PeerID, FleetID                                string
}

// Prekeys are the private halves that a responder found by the ids of a handshake.
type Prekeys struct{ SpkSecret, PqSeed, OpkSecret []byte }

// Agreed is the outcome of a handshake, the same on both sides.
type Agreed struct{ Transcript, SID, SK []byte }

func encodeEC(key []byte) []byte  { return concat([]byte{5}, key) }
func encodeKEM(key []byte) []byte { return concat([]byte{10}, key) }
func encodeText(t string) []byte  { return concat(u32(uint32(len(t))), []byte(t)) }

func continuityOf(exporter []byte) []byte { return sha(Label("exporter-name"), exporter) }

// transcript is T of §3.4; opk is the public key that goes with h.OpkID.
func transcript(a, b *Party, epoch uint32, h *Handshake, spk, opk, pq []byte) []byte {
	associated := concat(
		encodeEC(a.IKPublic), encodeEC(b.IKPublic), encodeKEM(pq), a.CertificateDigest, b.CertificateDigest,
		encodeText(a.FleetID), encodeText(b.FleetID), encodeText(a.PeerID), encodeText(b.PeerID), []byte(suite))
	oneTime, continuity := []byte{0}, []byte{0}
	if h.OpkID != nil {
		oneTime = concat([]byte{1}, u32(*h.OpkID), encodeEC(opk))
	}
	switch {
	case h.Continuity != nil:
		continuity = concat([]byte{1}, h.Continuity)
	case h.Reset:
		continuity = []byte{2}
	}
	return sha(Label("handshake-transcript"), associated, u32(epoch), encodeEC(h.EK),
		u32(h.SpkID), encodeEC(spk), kindByte(h.PqKind), u32(h.PqID), oneTime, h.KemCiphertext, continuity)
}

func finish(t, exporter []byte, secrets ...[]byte) *Agreed {
	salt := exporter
	if salt == nil {
		salt = make([]byte, 32)
	}
	ikm := concat(bytes.Repeat([]byte{0xff}, 32), concat(secrets...))
	return &Agreed{Transcript: t, SID: sha(Label("session-id"), t)[:16], SK: derive(salt, ikm, info("pqxdh", t), 32)}
}

// Beginning is what an initiator adds to a bundle. Exporter is nil but for a rotation; EkSecret and Coins are the
// randomness of the handshake.
type Beginning struct {
	Epoch                     uint32
	Reset                     bool
	Exporter, EkSecret, Coins []byte
}

// Initiate is §3.2.
func Initiate(self, peer *Party, bundle *Bundle, b *Beginning) (*Handshake, *Agreed, error) {
	if !bytes.Equal(sha(bundle.Certificate), peer.CertificateDigest) {
		return nil, nil, refusal("IdentityChanged", "another certificate than the pinned one")
	}
	if bytes.Equal(self.IKPublic, peer.IKPublic) {
		return nil, nil, refusal("UnauthorizedPeer", "the own identity key")
	}
	label := Label("prekey-signature")
	if !Verify(peer.SignKey, concat(label, []byte("spk"), u32(bundle.Spk.ID), encodeEC(bundle.Spk.Key)), bundle.Spk.Signature) ||
		!Verify(peer.SignKey, concat(label, kindByte(bundle.Pq.Kind), u32(bundle.Pq.ID), encodeKEM(bundle.Pq.Key)), bundle.Pq.Signature) {
		return nil, nil, refusal("InvalidSignature", "a prekey signature")
	}
	kem, err := mlkem.NewEncapsulationKey1024(bundle.Pq.Key)
	if err != nil {
		return nil, nil, refusal("InvalidPublicKey", "the KEM prekey")
	}
	pairs := [][2][]byte{{self.IKSecret, bundle.Spk.Key}, {b.EkSecret, peer.IKPublic}, {b.EkSecret, bundle.Spk.Key}}
	h := &Handshake{Reset: b.Reset, EK: PublicOf(b.EkSecret), SpkID: bundle.Spk.ID, PqID: bundle.Pq.ID, PqKind: bundle.Pq.Kind, CertificateDigest: self.CertificateDigest}
	var opk []byte
	if bundle.Opk != nil {
		pairs = append(pairs, [2][]byte{b.EkSecret, bundle.Opk.Key})
		h.OpkID, opk = &bundle.Opk.ID, bundle.Opk.Key
	}
	if b.Exporter != nil {
		h.Continuity = continuityOf(b.Exporter)
	}
	secrets, err := agreeAll(pairs)
	if err != nil {
		return nil, nil, err
	}
	shared, ciphertext, err := mlkemtest.Encapsulate1024(kem, b.Coins)
	if err != nil {
		return nil, nil, err
	}
	h.KemCiphertext = ciphertext
	t := transcript(self, peer, b.Epoch, h, bundle.Spk.Key, opk, bundle.Pq.Key)
	return h, finish(t, b.Exporter, append(secrets, shared)...), nil
}

// Respond is §3.3.
func Respond(self, peer *Party, keys *Prekeys, h *Handshake, epoch uint32, exporter []byte) (*Agreed, error) {
	if (h.Continuity == nil) != (exporter == nil) || exporter != nil && !hmac.Equal(h.Continuity, continuityOf(exporter)) {
		return nil, refusal("ContinuityBroken", "not the exporter that is expected")
	}
	if !bytes.Equal(h.CertificateDigest, peer.CertificateDigest) {
		return nil, refusal("Decryption", "another certificate than the pinned one")
	}
	if (h.OpkID == nil) != (keys.OpkSecret == nil) {
		return nil, refusal("Decryption", "one-time prekey")
	}
	pairs := [][2][]byte{{keys.SpkSecret, peer.IKPublic}, {self.IKSecret, h.EK}, {keys.SpkSecret, h.EK}}
	var opk []byte
	if h.OpkID != nil {
		pairs = append(pairs, [2][]byte{keys.OpkSecret, h.EK})
		opk = PublicOf(keys.OpkSecret)
	}
	secrets, err := agreeAll(pairs)
	if err != nil {
		return nil, refusal("Decryption", err.Error())
	}
	kem, err := mlkem.NewDecapsulationKey1024(keys.PqSeed)
	if err != nil {
		return nil, err
	}
	shared, err := kem.Decapsulate(h.KemCiphertext)
	if err != nil {
		return nil, refusal("Decryption", "KEM ciphertext")
	}
	t := transcript(peer, self, epoch, h, PublicOf(keys.SpkSecret), opk, kem.EncapsulationKey().Bytes())
	return finish(t, exporter, append(secrets, shared)...), nil
}

func agreeAll(pairs [][2][]byte) ([][]byte, error) {
	var secrets [][]byte
	for _, pair := range pairs {
		secret, err := Agree(pair[0], pair[1])
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// SignBundle makes a bundle of prekeys with the signatures of §3.1.
func SignBundle(sign func(message []byte) []byte, certificate []byte, spk, pq Prekey, opk *Prekey) *Bundle {
	label := Label("prekey-signature")
	spk.Signature = sign(concat(label, []byte("spk"), u32(spk.ID), encodeEC(spk.Key)))
	pq.Signature = sign(concat(label, kindByte(pq.Kind), u32(pq.ID), encodeKEM(pq.Key)))
	return &Bundle{Certificate: certificate, Spk: spk, Pq: pq, Opk: opk}
}
