package vectors

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"

	"filippo.io/edwards25519"

	"tallystick-interop/ts1"
)

// smallOrder are all encodings of the eight points of small order, sign bit aside: y = 0, 1, the two of order 8, p − 1,
// and the second spellings p and p + 1.
var smallOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

// RunSignatures holds docs/spec/session.md §1.2 against signatures that satisfy the equation and must be refused all the
// same. That crypto/ed25519, which has the equation alone, accepts each of them shows that the rule refuses it.
func RunSignatures(report Report) {
	var points [][]byte
	for _, text := range smallOrder {
		point, err := hex.DecodeString(text)
		if err != nil {
			panic(err)
		}
		signed := append([]byte{}, point...)
		signed[31] |= 0x80
		points = append(points, point, signed)
	}
	for _, key := range points {
		report(fmt.Sprintf("Ed25519 refuses the key of small order %x", key), smallOrderKey(key, points))
	}
	own := ed25519.NewKeyFromSeed(make([]byte, 32))
	for _, r := range points[:10] {
		report(fmt.Sprintf("Ed25519 refuses R of small order %x", r), smallOrderR(own, r))
	}
	report("Ed25519 refuses S + L and other lengths", otherSpellings(own))
}

func smallOrderKey(key []byte, points [][]byte) error {
	for try := range 100 {
		message := fmt.Append(nil, "message ", try)
		for _, r := range points {
			signature := append(append([]byte{}, r...), make([]byte, 32)...)
			if !ed25519.Verify(key, message, signature) {
				continue
			}
			if ts1.Verify(key, message, signature) {
				return fmt.Errorf("accepted with R = %x", r)
			}
			return nil
		}
	}
	return errors.New("no signature was found that satisfies the equation")
}

// smallOrderR signs with R of small order: S = k·a satisfies the equation when R is neutral. For the other points the
// equation without the cofactor does not hold, and whoever multiplies by 8 would accept.
func smallOrderR(own ed25519.PrivateKey, r []byte) error {
	public := own.Public().(ed25519.PublicKey)
	message := []byte("message")
	half := sha512.Sum512(own.Seed())
	secret, err := edwards25519.NewScalar().SetBytesWithClamping(half[:32])
	if err != nil {
		return err
	}
	hash := sha512.Sum512(append(append(append([]byte{}, r...), public...), message...))
	k, err := edwards25519.NewScalar().SetUniformBytes(hash[:])
	if err != nil {
		return err
	}
	signature := append(append([]byte{}, r...), k.Multiply(k, secret).Bytes()...)
	if neutral := hex.EncodeToString(r) == smallOrder[1]; ed25519.Verify(public, message, signature) != neutral {
		return errors.New("the equation holds for another R than the neutral point")
	}
	if ts1.Verify(public, message, signature) {
		return errors.New("accepted")
	}
	return nil
}

func otherSpellings(own ed25519.PrivateKey) error {
	public := own.Public().(ed25519.PublicKey)
	message := []byte("message")
	genuine := ed25519.Sign(own, message)
	if !ts1.Verify(public, message, genuine) {
		return errors.New("a genuine signature is refused")
	}
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	large, carry := append([]byte{}, genuine...), 0
	for i, b := range order {
		carry += int(large[32+i]) + int(b)
		large[32+i] = byte(carry)
		carry >>= 8
	}
	for _, other := range [][]byte{large, genuine[:63], append(genuine[:64:64], 0), {}} {
		if ts1.Verify(public, message, other) {
			return fmt.Errorf("%x is accepted", other)
		}
	}
	for _, other := range [][]byte{public[:31], append(public[:32:32], 0), {}} {
		if ts1.Verify(other, message, genuine) {
			return fmt.Errorf("a key of %d bytes is accepted", len(other))
		}
	}
	return nil
}
