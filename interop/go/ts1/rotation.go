package ts1

import "bytes"

// Session is one of the sessions of a pair (§7). Own says that this side sent its handshake.
type Session struct {
	Epoch        uint32
	Own, GivenUp bool
	State        *State
}

const maxResetJump = 1 << 20

// horizon gives h and a of §7.1.
func horizon(sessions []*Session) (settled, highest uint32) {
	for _, s := range sessions {
		highest = max(highest, s.Epoch)
		if !s.Own || s.State.confirmed {
			settled = max(settled, s.Epoch)
		}
	}
	return settled, highest
}

// SaltFor judges a handshake of an epoch by §7.1 and §7.2; nil stands for zeros. Policy allows every reset here.
func SaltFor(sessions []*Session, h *Handshake, epoch uint32) ([]byte, error) {
	settled, highest := horizon(sessions)
	if h.Reset {
		if epoch <= settled || uint64(epoch) > uint64(highest)+maxResetJump+1 {
			return nil, refusal("ContinuityBroken", "the epoch of a reset")
		}
		return nil, nil
	}
	if epoch < settled {
		return nil, refusal("ContinuityBroken", "an epoch that is over")
	}
	if uint64(epoch) > uint64(highest)+1 {
		return nil, refusal("NotReady", "an epoch ahead of one that has not come")
	}
	alive, silent := false, true
	var found []byte
	for _, s := range sessions {
		if epoch == settled && s.Epoch == settled && !s.Own {
			return nil, refusal("ContinuityBroken", "this epoch has been answered")
		}
		if s.Epoch != epoch-1 {
			continue
		}
		if h.Continuity != nil && found == nil {
			found = s.State.ExporterNamed(h.Continuity)
		}
		if !s.GivenUp {
			alive = true
			silent = silent && s.State.sent == 0
		}
	}
	switch {
	case h.Continuity != nil && found == nil:
		return nil, refusal("ContinuityBroken", "an exporter that is not known here")
	case h.Continuity == nil && epoch != 1 && !(alive && silent):
		return nil, refusal("ContinuityBroken", "no exporter is named")
	}
	return found, nil
}

// NextEpoch gives epoch and salt of the session that this side begins after the last of its sessions.
func NextEpoch(sessions []*Session, reset bool, hint *uint32) (epoch uint32, exporter []byte, err error) {
	_, highest := horizon(sessions)
	if !reset {
		last := sessions[len(sessions)-1]
		if exporter = last.State.NewestReceived(); exporter == nil {
			return 0, nil, refusal("ContinuityBroken", "no exporter that the peer is known to have")
		}
		return last.Epoch + 1, exporter, nil
	}
	if hint != nil {
		if uint64(*hint) > uint64(highest)+maxResetJump {
			return 0, nil, refusal("VerificationFailed", "the epoch of the bundle")
		}
		highest = max(highest, *hint)
	}
	return highest + 1, nil, nil
}

// Wins says whether the first of two sessions that both sides have is the one to send on.
func Wins(ours, theirs *Handshake, ourEpoch, theirEpoch uint32) bool {
	if ourEpoch != theirEpoch {
		return ourEpoch > theirEpoch
	}
	return bytes.Compare(ours.EK, theirs.EK) < 0
}
