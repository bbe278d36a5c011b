package presence

import (
	"context"
	"slices"
)

// The values of [Group].Status, from the best to the worst.
const (
	GroupAvailable = "available"
	GroupAway      = "away"
	GroupOffline   = "offline"
)

// Op is the effect of a [Change] on a watcher's list.
type Op string

// The operations.
const (
	OpJoined  Op = "joined"  // the subject became present
	OpUpdated Op = "updated" // its view changed
	OpLeft    Op = "left"    // it is no longer present

	// Only the subject itself gets these. The list stays the same.
	OpRejected  Op = "rejected"  // its request for Status was rejected
	OpChallenge Op = "challenge" // it must answer the challenge ID before Until
)

// Change is one change of a watcher's list. View is the new row, which an absent
// subject can have too. A nil View means that the subject has no row.
type Change struct {
	Op      Op    `json:"op"`
	Subject Ref   `json:"subject"`
	View    *View `json:"view,omitzero"`

	ID     string  `json:"id,omitzero"`     // of a request or challenge
	Status string  `json:"status,omitzero"` // of a rejected request
	Until  Instant `json:"until,omitzero"`  // of the wall clock: when a challenge must be answered
}

// Group is what the members of a channel add up to for an audience.
type Group struct {
	Status string `json:"rung"`  // the best group status of any member
	Count  int    `json:"count"` // members present, of those the audience may list
	// Reason is [GroupClosed] outside the channel's hours; for visitors the group
	// status is then offline. It can be [GroupUnstaffed] in the hours if no member is
	// present. See [Roster.SetHours].
	Reason string `json:"reason,omitzero"`
	// NextOpen is when a closed channel opens next; zero if that is not known.
	NextOpen Instant `json:"nextOpen,omitzero"`
}

// FrameKind is the kind of a [Frame].
type FrameKind string

// The kinds of frame.
const (
	FrameSnapshot FrameKind = "snapshot" // the whole list; replace the old one
	FrameDiff     FrameKind = "diff"     // changes; apply them in order
	FrameRemoved  FrameKind = "removed"  // access has ended; no frame follows
)

// Frame is what a watcher gets: a snapshot, then diffs. The Seq of a diff is one
// more than that of the frame before. Watchers share frames: do not change one.
type Frame struct {
	Kind    FrameKind `json:"type"`
	Version int       `json:"v"`
	Channel Channel   `json:"channel"`
	// Epoch names the stream. Sequence numbers of different epochs do not compare. A
	// new epoch begins with a snapshot.
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
	// Lagged is set on a snapshot for a watcher that did not keep up. It replaces
	// the changes in between.
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

// Transport carries frames to one watcher, such as a socket or an event stream.
type Transport interface {
	// Send delivers one frame. One goroutine at a time calls it, in order. It may
	// block until ctx is done. Meanwhile up to [Options].WatchBuffer frames wait, and
	// one more replaces them by a snapshot. An error ends the stream. Watchers share
	// the frame: do not change it.
	Send(ctx context.Context, f *Frame) error
	// Close is called once after the last Send, with the reason for the end. No call
	// follows it. If another goroutine calls it, it ends a Send that blocks.
	Close(reason error) error
}

// Notice returns the change that an output brings to its subject and no one else, if any.
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
