package presence

import (
	"context"
	"errors"
)

// Apply applies an event that has no method of its own, such as a challenge, to its
// subject. An event of kind EventNodeDown, EventNodeUp or EventSuspended without a
// subject is for every subject. Apply asks no authorizer. It is for the host.
func (t *Tracker) Apply(ctx context.Context, e Event) error {
	if t.closed.Load() {
		return t.closedError()
	}
	if err := e.validate(); err != nil {
		return err
	}
	if e.Subject == (Ref{}) {
		if !eventKinds[e.Kind].forAll {
			return refuse(ErrInvalid, "subject", "", "an event of kind %s needs one", e.Kind)
		}
		now := t.time.Now()
		t.eachSubject(nil, func(h *loaded) {
			if err := h.step(&e, now); err != nil {
				t.log.Warn("presence: an event for every subject was refused", "subject", h.ref, "error", err)
			}
		})
		return nil
	}
	if e.Kind == EventConnect || e.Kind == EventLogin {
		return refuse(ErrInvalid, "event", "", "Connect opens a connection")
	}
	find := t.subject
	if !eventKinds[e.Kind].creates { // an event that is refused must not make its subject known
		find = t.known
	}
	who, err := find(ctx, e.Subject)
	if err != nil {
		return err
	}
	return t.apply(ctx, who, &e, nil)
}

// SetLoad reports how much work a subject has on one work channel. It replaces
// the load known there. A tracker keeps loads in memory only: report them again
// after a start. Do not call it for a subject whose work a routing queue gives out.
func (t *Tracker) SetLoad(ctx context.Context, subject Ref, l Load) error {
	return t.Apply(ctx, Event{Kind: EventLoad, Subject: subject, Load: l})
}

// SetEndpoint makes a subject reachable without a connection, or replaces its
// endpoint of the same id. The endpoint is stored, and lasts until p.Until,
// RemoveEndpoint or Disable. SetEndpoint returns [ErrLimit] if the subject has
// [MaxEndpoints] others, and [ErrDisabled] while its presence is switched off.
func (t *Tracker) SetEndpoint(ctx context.Context, subject Ref, p Endpoint) error {
	return t.Apply(ctx, Event{Kind: EventEndpoint, Subject: subject, Endpoint: p})
}

// RemoveEndpoint removes an endpoint of a subject. It does nothing if the subject
// is unknown or has no endpoint of that id.
func (t *Tracker) RemoveEndpoint(ctx context.Context, subject Ref, id string) error {
	if err := checkID("endpoint", id); err != nil {
		return err
	}
	who, err := t.known(ctx, subject)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.apply(ctx, who, &Event{Kind: EventEndpoint, Remove: true, Endpoint: Endpoint{ID: id}}, nil)
}

// Logout ends all connections of a subject, as if the person had logged out. It
// does not refuse a later connection: also end the login, or use Disable.
func (t *Tracker) Logout(ctx context.Context, subject Ref) error {
	return t.Apply(ctx, Event{Kind: EventLogout, Subject: subject})
}

// Disable switches the presence of a subject off. Its connections, claims and
// endpoints end, and its work is taken away. Connect then returns [ErrDisabled]
// until Enable. With storage, Disable returns once the change is stored.
func (t *Tracker) Disable(ctx context.Context, subject Ref) error {
	return t.Apply(ctx, Event{Kind: EventDisable, Subject: subject})
}

// Enable switches the presence of a subject on again. What Disable ended stays
// ended.
func (t *Tracker) Enable(ctx context.Context, subject Ref) error {
	return t.Apply(ctx, Event{Kind: EventEnable, Subject: subject})
}

// apply applies an event to a subject. If the event is accepted, it calls done
// while the subject is still locked.
func (t *Tracker) apply(ctx context.Context, w handle, e *Event, done func(*loaded)) error {
	now := t.time.Now()
	e.Subject = w.ref
	if t.opts.Storage != nil && eventKinds[e.Kind].storedFirst {
		return t.applyStored(ctx, w, e, now, done)
	}
	h := t.lock(w.n, w.ref)
	if h == nil {
		return w.gone()
	}
	defer h.unlock()
	if err := h.step(e, now); err != nil {
		return err
	}
	if done != nil {
		done(h)
	}
	return nil
}

// applyStored applies an event whose change must be stored before it is shown. It
// steps a copy, stores the record of the copy, and then makes the copy the state.
// So no lock of a shard waits for storage. If another event was applied during
// that, it tries again on the new state. After 65 tries it returns ErrUnavailable.
func (t *Tracker) applyStored(ctx context.Context, w handle, e *Event, now Instant, done func(*loaded)) error {
	if err := w.lockWrite(ctx); err != nil {
		return err
	}
	defer w.unlockWrite()
	for range maxConflicts + 1 {
		tried, err := t.try(ctx, w, e, now)
		if err != nil {
			return err
		}
		h := t.lock(w.n, w.ref)
		if h == nil {
			return w.gone()
		}
		if h.extra.steps != tried.steps {
			h.unlock()
			continue
		}
		h.adopt(tried)
		if done != nil {
			done(h)
		}
		h.unlock()
		return nil
	}
	return refuse(ErrUnavailable, "subject", w.ref.String(), "it changed %d times while its record was being stored", maxConflicts+1)
}

// adopt makes the copy of a trial the state of the subject.
func (h *loaded) adopt(tried *trial) {
	*h.state = tried.state
	h.fold() // takes over what was noted without the lock during the trial
	h.extra.steps++
	h.stepped, h.due = true, tried.next
	h.carryOut(tried.out, tried.written)
}

// step applies an event to the subject and carries out the outputs.
func (h *loaded) step(e *Event, now Instant) error {
	h.applyClockBreaks()
	h.stepped = true
	out, next, err := h.m.Step(h.state, e, now, h.out[:0])
	h.due = next
	if h.extra != nil && (e.Kind != EventTick || len(out) > 0) { // a tick without outputs may be repeated later with the same result
		h.extra.steps++
	}
	h.carryOut(out, false)
	clear(out)
	h.out = out[:0]
	return err
}

// applyClockBreaks applies the standstills and clock changes since the subject was
// last locked. They precede every other event, since heartbeats sent during a
// standstill are not yet read.
func (h *loaded) applyClockBreaks() {
	if h.sub.breaks == h.t.time.Breaks() {
		return
	}
	now, stood, from, to, behind, set := h.t.time.Since(h.sub.breaks)
	h.sub.breaks = now
	if !h.state.Current.Known {
		h.state.Behind += behind
		return
	}
	back := Event{Kind: EventClock, Subject: h.ref, From: set.Add(behind), To: set}
	if behind > 0 && set <= from {
		h.step(&back, set)
	}
	if stood && h.state.Now <= from {
		h.step(&Event{Kind: EventSuspended, From: from, To: to}, to)
	}
	if behind > 0 && set > from {
		h.step(&back, set)
	}
}

// follow steps a subject to the policy that is now in force.
func (h *loaded) follow(f *policyInForce) {
	h.sub.flags ^= flagParity
	h.m = f.before
	h.step(&Event{Kind: EventTick}, f.since)
	h.m, h.anew = f.m, true
	h.eachHub(func(hub *channelHub) { hub.setMachine(f.m) }) // the frames go out with the changes that the policy makes
	if h.state.Current.Known {
		h.step(&Event{Kind: EventPolicy, Subject: h.ref}, f.since)
	}
	if alone := h.subjectHub(); alone != nil {
		alone.refresh(f.since)
	}
}

// carryOut carries out the outputs of a step. If written, storage already has the
// record of the state.
func (h *loaded) carryOut(out []Output, written bool) {
	t := h.t
	for i := range out {
		o := &out[i]
		t.observers.call(h.ref, o)
		switch o.Kind {
		case OutputPersist, OutputTransition, OutputUpdated:
			if !written {
				h.markDirty()
			}
		}
		switch o.Kind {
		case OutputTransition, OutputUpdated:
			h.show(&o.Presence, o.Noticed)
			t.sendHeldBack(h.m, o.Noticed)
		}
		if c, ok := o.Notice(h.ref); ok {
			h.eachHub(func(hub *channelHub) { hub.tell(c) })
		}
		if !t.history {
			continue
		}
		if row, ok := o.Row(); ok {
			row.Subject = h.ref
			t.journal.add(row, t.opts.Storage != nil)
		}
	}
}
