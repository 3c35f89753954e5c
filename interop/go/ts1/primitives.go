package ts1

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"filippo.io/edwards25519"
	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"
)

const suite = "TS1"

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func sha(parts ...[]byte) []byte {
	digest := sha256.Sum256(concat(parts...))
	return digest[:]
}

// Label is §2's label(purpose).
func Label(purpose string) []byte { return []byte("tallystick/" + purpose + "/v1") }

func info(purpose string, parameters ...[]byte) []byte {
	return concat(Label(purpose), []byte(suite), concat(parameters...))
}

func derive(salt, ikm, info []byte, length int) []byte {
	out, err := hkdf.Key(sha256.New, ikm, salt, string(info), length)
	if err != nil {
		panic(err)
	}
	return out
}

func mac(key []byte, message ...byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

// canonicalU says whether u has bit 255 clear and is below 2^255 - 19 (§1.1).
func canonicalU(u []byte) bool {
	if len(u) != 32 || u[31] > 0x7f {
		return false
	}
	if u[31] != 0x7f || u[0] < 0xed {
		return true
	}
	return !bytes.Equal(u[1:31], bytes.Repeat([]byte{0xff}, 30))
}

// Agree is X25519 by the rule of §1.1.
func Agree(secret, public []byte) ([]byte, error) {
	if !canonicalU(public) {
		return nil, refusal("InvalidPublicKey", "not canonical")
	}
	private, err := ecdh.X25519().NewPrivateKey(secret)
	if err != nil {
		return nil, err
	}
	peer, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	shared, err := private.ECDH(peer)
	if err != nil {
		return nil, refusal("InvalidPublicKey", "agrees to zero")
	}
	return shared, nil
}

// PublicOf is the X25519 public key of a private one.
func PublicOf(secret []byte) []byte {
	private, err := ecdh.X25519().NewPrivateKey(secret)
	if err != nil {
		panic(err)
	}
	return private.PublicKey().Bytes()
}

// canonicalPoint says whether 32 bytes are the one encoding of a point whose order is not small.
func canonicalPoint(encoded []byte) bool {
	point, err := new(edwards25519.Point).SetBytes(encoded)
	if err != nil || !bytes.Equal(point.Bytes(), encoded) {
		return false
	}
	return new(edwards25519.Point).MultByCofactor(point).Equal(edwards25519.NewIdentityPoint()) == 0
}

// Verify is Ed25519 by the rule of §1.2. crypto/ed25519 has the cofactorless equation and refuses a large S.
func Verify(public, message, signature []byte) bool {
	if len(public) != ed25519.PublicKeySize || len(signature) != ed25519.SignatureSize {
		return false
	}
	return canonicalPoint(public) && canonicalPoint(signature[:32]) && ed25519.Verify(public, message, signature)
}

// KDFRoot is §5.1.
func KDFRoot(root, agreed []byte) (newRoot, chain, exporter []byte) {
	out := derive(root, agreed, info("root"), 96)
	return out[:32], out[32:64], out[64:]
}

// KDFChain is §5.2.
func KDFChain(chain []byte) (newChain, messageKey []byte) { return mac(chain, 2), mac(chain, 1) }

func messageSecrets(messageKey, salt []byte) (key, nonce, commitmentKey []byte) {
	out := derive(salt, messageKey, info("message"), 44)
	return out[:32], out[32:], derive(salt, messageKey, info("commitment"), 32)
}

func commitTo(key, plaintext []byte) []byte {
	h := blake3.New(32, key)
	h.Write(plaintext)
	return h.Sum(nil)
}

// SealMessage is §6 for one message key.
func SealMessage(messageKey, salt, aad, plaintext []byte) (ciphertext, commit []byte, err error) {
	padded, err := pad(plaintext)
	if err != nil {
		return nil, nil, err
	}
	key, nonce, commitmentKey := messageSecrets(messageKey, salt)
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, nil, err
	}
	return aead.Seal(nil, nonce, padded, aad), commitTo(commitmentKey, plaintext), nil
}

// OpenMessage is the reverse of SealMessage; the commitment is looked at last.
func OpenMessage(messageKey, salt, aad, ciphertext, commit []byte) ([]byte, error) {
	key, nonce, commitmentKey := messageSecrets(messageKey, salt)
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, err
	}
	padded, err := aead.Open(nil, nonce, ciphertext, aad)
	if err != nil {
		return nil, refusal("Decryption", "the tag does not fit")
	}
	plaintext, err := unpad(padded)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(commitTo(commitmentKey, plaintext), commit) {
		return nil, refusal("VerificationFailed", "the commitment does not fit")
	}
	return plaintext, nil
}

const maxPlaintext = 4 << 20

func bucket(length int) int {
	for size := 1 << 10; size <= 32<<10; size *= 2 {
		if length <= size {
			return size
		}
	}
	return (length + 32<<10 - 1) / (32 << 10) * (32 << 10)
}

func pad(plaintext []byte) ([]byte, error) {
	if len(plaintext) > maxPlaintext {
		return nil, refusal("Encryption", "longer than 4 MiB")
	}
	padded := make([]byte, bucket(4+len(plaintext)))
	binary.BigEndian.PutUint32(padded, uint32(len(plaintext)))
	copy(padded[4:], plaintext)
	return padded, nil
}

func unpad(padded []byte) ([]byte, error) {
	if len(padded) < 4 {
		return nil, refusal("Decryption", "no length")
	}
	length := binary.BigEndian.Uint32(padded)
	if length > maxPlaintext || bucket(4+int(length)) != len(padded) {
		return nil, refusal("Decryption", "another bucket than the smallest")
	}
	end := 4 + int(length)
	if !bytes.Equal(padded[end:], make([]byte, len(padded)-end)) {
		return nil, refusal("Decryption", "padding that is not zero")
	}
	return bytes.Clone(padded[4:end]), nil
}
