package presence

import (
	"context"
	"errors"
)

// Apply feeds an event that has no method of its own to the state machine of its
// subject, such as a challenge. An event of kind EventNodeDown, EventNodeUp or
// EventSuspended without a subject goes to every subject. Apply asks no
// authorizer: it is for the host.
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
				t.log.Warn("presence: event for all", "subject", h.ref, "error", err)
			}
		})
		return nil
	}
	if e.Kind == EventConnect || e.Kind == EventLogin {
		return refuse(ErrInvalid, "event", "", "connections are made with Connect")
	}
	find := t.subject
	if !eventKinds[e.Kind].creates { // an unknown subject is not kept for a refusal
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

// RemoveEndpoint removes an endpoint of a subject. It returns nil if the subject
// has no endpoint of that id, or is unknown.
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
// refuses no later connection: end the login too, or use Disable.
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

// apply feeds an event to a subject. If the event was accepted, it calls done
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

// applyStored applies an event whose change must be stored before it is shown.
// It tries the event on a copy, stores the copy's record, and only then makes the
// copy the state, so that no lock of a shard waits for storage. If something else
// was applied meanwhile, it tries again on that.
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

// adopt makes the copy of a trial the state.
func (h *loaded) adopt(tried *trial) {
	*h.state = tried.state
	h.fold() // what was noted without the lock meanwhile
	h.extra.steps++
	h.stepped, h.due = true, tried.next
	h.carryOut(tried.out, tried.written)
}

// step runs the state machine and carries out what it says.
func (h *loaded) step(e *Event, now Instant) error {
	h.applyClockBreaks()
	h.stepped = true
	out, next, err := h.m.Step(h.state, e, now, h.out[:0])
	h.due = next
	if h.extra != nil && (e.Kind != EventTick || len(out) > 0) { // other ticks change nothing that a later tick would not
		h.extra.steps++
	}
	h.carryOut(out, false)
	clear(out)
	h.out = out[:0]
	return err
}

// applyClockBreaks tells a subject how time was broken since it was last looked at:
// before anything else, since what was sent meanwhile has not been read yet.
func (h *loaded) applyClockBreaks() {
	if h.sub.told == h.t.time.Breaks() {
		return
	}
	now, stood, from, to, behind := h.t.time.Since(h.sub.told)
	h.sub.told = now
	if !h.state.Current.Known {
		return
	}
	if stood && h.state.Now <= from {
		h.step(&Event{Kind: EventSuspended, From: from, To: to}, to)
	}
	if behind > 0 {
		h.step(&Event{Kind: EventClock, Subject: h.ref, From: h.state.Now.Add(behind), To: h.state.Now}, h.state.Now)
	}
}

// follow tells a subject that another policy is in force.
func (h *loaded) follow(f *policyInForce) {
	h.sub.flags ^= flagParity
	h.m = f.before
	h.step(&Event{Kind: EventTick}, f.since)
	h.m, h.anew = f.m, true
	h.eachHub(func(hub *channelHub) { hub.setMachine(f.m) }) // said to watchers with what follows from it
	if h.state.Current.Known {
		h.step(&Event{Kind: EventPolicy, Subject: h.ref}, f.since)
	}
	if alone := h.subjectHub(); alone != nil {
		alone.refresh(f.since)
	}
}

// carryOut does what the outputs of a step ask for. If written, storage has the
// record that follows from them.
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
