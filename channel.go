package presence

import (
	"context"
	"slices"
)

// The rungs of the ladder on which a group is summed up.
const (
	GroupAvailable = "available"
	GroupAway      = "away"
	GroupOffline   = "offline"
)

// Op says what a Change does to a watcher's list.
type Op string

// The operations.
const (
	OpJoined  Op = "joined"  // the subject became present
	OpUpdated Op = "updated" // its view changed
	OpLeft    Op = "left"    // it is no longer present

	// What only the subject itself is told. The list stays as it is.
	OpRejected  Op = "rejected"  // its request for Status was turned down
	OpChallenge Op = "challenge" // it must answer to ID before Until
)

// Change is one change of a watcher's list. View is the row from now on, which
// an absent subject can have too; nil means that the subject has no row.
type Change struct {
	Op      Op    `json:"op"`
	Subject Ref   `json:"subject"`
	View    *View `json:"view,omitzero"`

	ID     string  `json:"id,omitzero"`     // of a request or challenge
	Status string  `json:"status,omitzero"` // that was asked for
	Until  Instant `json:"until,omitzero"`
}

// Group sums a channel up for an audience.
type Group struct {
	Status string `json:"rung"`  // the best rung any member stands on
	Count  int    `json:"count"` // members present, of those the audience may list
	// Reason is [GroupClosed] outside the channel's hours, whatever its members
	// do; for visitors the rung is then offline. See [Roster.SetHours].
	Reason string `json:"reason,omitzero"`
	// NextOpen is when a closed channel opens next, as far as is known.
	NextOpen Instant `json:"nextOpen,omitzero"`
}

// FrameKind says what a Frame is.
type FrameKind string

// The kinds of frame.
const (
	FrameSnapshot FrameKind = "snapshot" // the whole list; forget everything before
	FrameDiff     FrameKind = "diff"     // changes, to be applied in order
	FrameRemoved  FrameKind = "removed"  // access has ended; nothing follows
)

// Frame is what a watcher receives: a snapshot first, then diffs whose Seq each
// is one more than the last. Frames are shared between watchers and must not be
// changed.
type Frame struct {
	Kind    FrameKind `json:"type"`
	Version int       `json:"v"`
	Channel Channel   `json:"channel"`
	// Epoch names the stream. Sequence numbers of different epochs do not
	// compare; a watcher that sees another one needs a snapshot.
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
	// Lagged is set on a snapshot sent because the watcher fell behind: changes
	// in between were skipped, not their result.
	Lagged  bool     `json:"lagged,omitzero"`
	Group   Group    `json:"group"`
	Members []View   `json:"members,omitempty"` // of a snapshot, by id
	Changes []Change `json:"changes,omitempty"` // of a diff

	encoded *encoded
}

// FrameVersion is the version of the frames' JSON form.
const FrameVersion = 1

func (r *Roster) newFrame(kind FrameKind, s *stream) *Frame {
	return &Frame{Kind: kind, Version: FrameVersion, Channel: r.channel, Epoch: s.epoch, Seq: s.seq, Group: s.group, encoded: new(encoded)}
}

// Transport carries frames to one watcher: a socket, an event stream, a test.
type Transport interface {
	// Send delivers one frame. It is called by one goroutine at a time, in
	// order. It may block until ctx is done; meanwhile frames queue up within a
	// bound, after which the watcher is sent a snapshot instead. An error ends
	// the stream. The frame is shared and must not be changed.
	Send(ctx context.Context, f *Frame) error
	// Close is called once after the last Send, with the reason for the end. No
	// call follows it. Called by somebody else it ends a Send under way.
	Close(reason error) error
}

// Notice returns what an output says to its subject itself, if it does.
func (o *Output) Notice(subject Ref) (c Change, ok bool) {
	switch {
	case o.Kind == OutputChallenge:
		return Change{Op: OpChallenge, Subject: subject, ID: o.ID, Until: o.At}, true
	case o.Kind == OutputRequestClosed && o.Reason == EndRejected:
		return Change{Op: OpRejected, Subject: subject, ID: o.Request.ID, Status: o.Request.Claim.Status}, true
	}
	return Change{}, false
}

// checkAudience checks that an audience is one of the closed list.
func checkAudience(a Audience) error {
	if !slices.Contains(audiences, a) {
		return refuse(ErrInvalid, "audience", string(a), "no such audience").allow(wordsOf(audiences)...)
	}
	return nil
}
