// Package conversation lets package ts1 and the product's ratchet talk to each other through a pipe.
package conversation

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"tallystick-interop/ts1"
)

type message map[string]any

// product is one process of product-peer.mts.
type product struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func start(node, script string) (*product, error) {
	command := exec.Command(node, script)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &product{command, in, bufio.NewReaderSize(out, 1<<20)}, command.Start()
}

func (p *product) close() error { return errors.Join(p.in.Close(), p.command.Wait()) }

type reply struct{ Error, SignKey, DhPublic, CertificateDigest, PeerID, FleetID, Bundle, Handshake, Envelope, Plaintext string }

// ask sends one request; a refusal of the product becomes a ts1.Refusal.
func (p *product) ask(request message) (*reply, error) {
	line, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	answer, err := p.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the product's process ended: %w", err)
	}
	var r reply
	if err := json.Unmarshal(answer, &r); err != nil {
		return nil, err
	}
	if r.Error != "" {
		return nil, &ts1.Refusal{Code: r.Error, Reason: "said by the product"}
	}
	return &r, nil
}

func unhex(text string) []byte {
	decoded, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return decoded
}
