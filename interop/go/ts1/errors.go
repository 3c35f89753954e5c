// Package ts1 is suite TS1 of docs/spec/session.md and docs/spec/envelope.md, written from those pages.
package ts1

import "errors"

// Refusal is an error with a code of docs/spec/errors.md.
type Refusal struct {
	Code   string
	Reason string
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Reason }

func refusal(code, reason string) error { return &Refusal{code, reason} }

// CodeOf is the code of a refusal, "ok" for none.
func CodeOf(err error) string {
	var r *Refusal
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &r):
		return r.Code
	}
	return "Internal (" + err.Error() + ")"
}
