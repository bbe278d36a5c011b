package presence

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// badField makes an event malformed in one way.
type badField struct {
	what string // the kind of thing that the refusal names
	bad  func(e *Event)
}

// eventForms has a well-formed event of each kind, and each way in which it can
// be malformed.
func eventForms() map[EventKind]struct {
	event  Event
	faults []badField
} {
	ann, kim := ID("ann"), Actor{Subject: ID("kim"), Role: RoleSupervisor}
	long := strings.Repeat("x", MaxID+1)
	record, err := must(Compile(DefaultPolicy())).Record(&State{Subject: ann}, 1)
	if err != nil {
		panic(err)
	}
	conn := []badField{
		{"connection", func(e *Event) { e.Conn = "" }},
		{"connection", func(e *Event) { e.Conn = "a\nb" }},
		{"connection", func(e *Event) { e.Conn = long }},
	}
	age := badField{"event", func(e *Event) { e.Age = -2 }}
	kind := badField{"kind", func(e *Event) { e.SubjectKind = "ghost" }}
	opens := append(conn[:len(conn):len(conn)], age, kind,
		badField{"device", func(e *Event) { e.Device = long }},
		badField{"node", func(e *Event) { e.Node = "\xff" }})
	actor := []badField{
		{"role", func(e *Event) { e.Actor.Role = "king" }},
		{"actor", func(e *Event) { e.Actor.Subject.ID = long }},
	}
	claim := append(actor[:len(actor):len(actor)],
		badField{"claim", func(e *Event) { e.Claim.ID = long }},
		badField{"key", func(e *Event) { e.Claim.Key = "\x00" }},
		badField{"connection", func(e *Event) { e.Claim.Conn = long }},
		badField{"until", func(e *Event) { e.Claim.For = -time.Second }},
		badField{"until", func(e *Event) { e.Claim.For, e.Claim.Until = time.Second, 1 }},
		badField{"reason", func(e *Event) { e.Claim.Reason = strings.Repeat("x", MaxReason+1) }},
		badField{"text", func(e *Event) { e.Claim.Text = "\xff" }},
		badField{"text", func(e *Event) { e.Claim.Text = "a\x00" }},
		badField{"audience", func(e *Event) { e.Claim.HidesFrom = []Audience{"everybody"} }})
	over := badField{"connection", func(e *Event) { e.Conn = "a\nb" }}
	request := badField{"request", func(e *Event) { e.ID = long }}
	challenge := badField{"challenge", func(e *Event) { e.ID = long }}
	load := []badField{
		{"work", func(e *Event) { e.Load.On = long }},
		{"work", func(e *Event) { e.Load.N = -1 }},
	}
	tooMuch := badField{"work", func(e *Event) { e.Load.N = maxLoad + 1 }}
	node := []badField{
		{"node", func(e *Event) { e.Node = "" }},
		{"node", func(e *Event) { e.Node = long }},
	}
	type form = struct {
		event  Event
		faults []badField
	}
	join := func(list []badField, more ...badField) []badField { return append(list[:len(list):len(list)], more...) }
	return map[EventKind]form{
		EventTick:      {},
		EventConnect:   {Event{Conn: "tab", Age: NoAge}, opens},
		EventLogin:     {Event{Conn: "tab", Age: time.Minute, SubjectKind: KindBot}, opens},
		EventHeartbeat: {Event{Conn: "tab", Age: NoAge}, join(conn, age)},
		EventInput:     {Event{Conn: "tab"}, conn},
		EventFocus:     {Event{Conn: "tab", Channel: "sales"}, join(conn, badField{"channel", func(e *Event) { e.Channel = long }})},
		EventVisible:   {Event{Conn: "tab"}, conn},
		EventDisconnect: {Event{Conn: "tab", Cause: CauseClosed}, join(conn,
			badField{"event", func(e *Event) { e.Cause = "" }}, badField{"event", func(e *Event) { e.Cause = CauseIdle }})},
		EventLogout: {Event{}, []badField{over}},
		EventEndpoint: {Event{Endpoint: Endpoint{ID: "phone", Kind: EndpointPush}}, []badField{
			{"endpoint", func(e *Event) { e.Endpoint.ID = "" }},
			{"endpoint", func(e *Event) { e.Endpoint.ID, e.Remove = long, true }},
			{"kind", func(e *Event) { e.Endpoint.Kind = "pigeon" }},
			kind,
		}},
		EventSetClaim: {Event{Actor: Agent(ann), Claim: Claim{Status: "busy", For: time.Minute}},
			join(claim, over, badField{"connection", func(e *Event) { e.Conn, e.Claim.Conn = "tab", "other" }})},
		EventEndClaim:  {Event{Actor: Agent(ann)}, join(claim, over)},
		EventNodeDown:  {Event{Node: "n1"}, join(node, badField{"event", func(e *Event) { e.Cause = CauseClosed }})},
		EventNodeUp:    {Event{Node: "n1", Incarnation: 2}, node},
		EventPolicy:    {},
		EventGrant:     {},
		EventDisable:   {},
		EventEnable:    {},
		EventSuspended: {Event{From: 1, To: 2}, []badField{{"event", func(e *Event) { e.From = 3 }}}},
		EventClock:     {Event{From: 2, To: 1}, nil},
		EventRestart:   {},
		EventRecord: {Event{Record: &record}, []badField{
			{"record", func(e *Event) { e.Record = nil }},
			{"record", func(e *Event) { e.Record = &Record{Data: []byte("{")} }},
			{"record", func(e *Event) { e.Record = &Record{Data: []byte(`{"version":2}`)} }},
		}},
		EventLoad: {Event{Load: Load{N: 2}}, join(load, tooMuch)},
		EventOffer: {Event{Load: Load{On: "chat"}, Routing: RouteSticky},
			join(load, tooMuch, badField{"work", func(e *Event) { e.Routing = "somehow" }})},
		EventDone:      {Event{Load: Load{N: maxLoad + 1}}, load},
		EventChallenge: {Event{}, []badField{challenge, {"until", func(e *Event) { e.Claim.For = -1 }}}},
		EventAck:       {Event{ID: "h1"}, []badField{challenge}},
		EventRequest:   {Event{Actor: Agent(ann), ID: "r1", Claim: Claim{Status: "away"}}, join(claim, request)},
		EventWithdraw:  {Event{Actor: Agent(ann)}, join(actor, request)},
		EventDecide:    {Event{Actor: kim, Reject: true}, join(actor, request)},
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// H4: every kind has a row and a name, and form is checked without a state.
func TestEventsAreValidated(t *testing.T) {
	forms := eventForms()
	names := make(map[string]EventKind)
	for k := range eventKinds {
		kind := EventKind(k)
		form, has := forms[kind]
		require.True(t, has, "%s", kind)
		require.NotEmpty(t, kind.String())
		require.NotContains(t, names, kind.String())
		names[kind.String()] = kind
		form.event.Kind = kind
		require.NoError(t, form.event.validate(), "%s", kind)
		for i, f := range form.faults {
			e := form.event
			f.bad(&e)
			var refusal *Error
			require.ErrorAs(t, e.validate(), &refusal, "%s, fault %d", kind, i)
			require.Equal(t, ErrInvalid, refusal.Err, "%s: %v", kind, refusal)
			require.Equal(t, f.what, refusal.What, "%s: %v", kind, refusal)
		}
	}
	for k := range OutputKind(len(outputKinds)) {
		require.NotEmpty(t, k.String())
	}
	require.Equal(t, "request-closed", OutputRequestClosed.String())
	require.Equal(t, "12", OutputKind(len(outputKinds)).String())
	require.Equal(t, []string{"none", "virtual", "lingering", "live"}, []string{ReachNone.String(), ReachVirtual.String(), ReachLingering.String(), ReachLive.String()})
	beyond := Event{Kind: EventKind(len(eventKinds))}
	require.ErrorContains(t, beyond.validate(), `invalid event "30": it is not a kind of event`)
}

// H4: a malformed event only lets time pass, whatever the state is.
func TestMalformedEventsChangeNothing(t *testing.T) {
	now := At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	m := must(Compile(DefaultPolicy()))
	ann := ID("ann")
	connected := State{}
	for _, e := range []Event{
		{Kind: EventLogin, Subject: ann, Conn: "tab", Age: NoAge},
		{Kind: EventSetClaim, Actor: Agent(ann), Claim: Claim{Status: "busy", For: 30 * time.Second}},
		{Kind: EventLoad, Load: Load{N: 2}},
		{Kind: EventChallenge, ID: "h1"},
	} {
		_, _, err := m.Step(&connected, &e, now, nil)
		require.NoError(t, err)
	}
	disabled := connected.Clone()
	_, _, err := m.Step(&disabled, &Event{Kind: EventDisable}, now, nil)
	require.NoError(t, err)
	later := now.Add(40 * time.Second) // the claim is over by then
	for name, before := range map[string]State{"unknown": {}, "connected": connected, "disabled": disabled} {
		passed := before.Clone()
		_, _, err := m.Step(&passed, &Event{}, later, nil)
		require.NoError(t, err)
		for kind, form := range eventForms() {
			form.event.Kind, form.event.Subject = kind, ann
			subject := badField{"subject", func(e *Event) { e.Subject = Ref{ID: "b\x00b"} }}
			faults := form.faults
			if kind != EventTick && kind != EventSuspended { // both are for any subject
				faults = append(faults[:len(faults):len(faults)], subject)
			}
			for i, f := range faults {
				e, s := form.event, before.Clone()
				f.bad(&e)
				given := e
				_, next, err := m.Step(&s, &e, later, nil)
				require.ErrorIs(t, err, ErrInvalid, "%s, %s, fault %d", name, kind, i)
				require.True(t, reflect.DeepEqual(given, e), "%s, %s, fault %d: the event was changed", name, kind, i)
				want := passed.Clone()
				if kind == EventPolicy { // the old machine has processed the time until now
					want = before.Clone()
					want.Now = later
				}
				require.Equal(t, want, s, "%s, %s, fault %d", name, kind, i)
				exact, _ := m.Next(&s)
				require.Equal(t, exact, next, "%s, %s, fault %d", name, kind, i)
			}
		}
	}
}

// Without a subject an event is for the one of the state, and for no other.
func TestEventsAreForOneSubject(t *testing.T) {
	m := must(Compile(DefaultPolicy()))
	var s State
	_, _, err := m.Step(&s, &Event{Kind: EventGrant}, 1, nil)
	require.ErrorContains(t, err, "neither the event nor the state has one")
	_, _, err = m.Step(&s, &Event{Kind: EventHeartbeat, Subject: ID("ann"), Conn: "tab", Age: NoAge}, 1, nil)
	require.ErrorIs(t, err, ErrUnknown)
	require.Equal(t, Ref{}, s.Subject, "a refused event names no state")
	_, _, err = m.Step(&s, &Event{Kind: EventGrant, Subject: ID("ann")}, 1, nil)
	require.NoError(t, err)
	_, _, err = m.Step(&s, &Event{Kind: EventLogin, Conn: "tab", Age: NoAge}, 2, nil)
	require.NoError(t, err)
	_, _, err = m.Step(&s, &Event{Kind: EventGrant, Subject: ID("bob")}, 3, nil)
	require.ErrorContains(t, err, `invalid subject "bob": the state is of ann`)
}

// A claim beyond the limit ends the oldest claim of an ended connection. It is
// refused if no claim is one.
func TestLimitOfClaimsEndsThatOfAnEndedConnection(t *testing.T) {
	policy := DefaultPolicy()
	policy.ClaimScope = ScopeConnection
	m := must(Compile(policy))
	ann := ID("ann")
	now := At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	var s State
	step := func(e Event) ([]Output, error) {
		e.Subject, e.Age = ann, NoAge
		out, _, err := m.Step(&s, &e, now, nil)
		return out, err
	}
	claim := func(conn string) ([]Output, error) {
		return step(Event{Kind: EventSetClaim, Conn: conn, Actor: Agent(ann), Claim: Claim{Status: "busy"}})
	}
	madeRoom := func(out []Output) (conns []string) {
		for _, o := range out {
			if o.Kind == OutputClaimEnded && o.Reason == EndLimit {
				conns = append(conns, o.Claim.Conn)
			}
		}
		return conns
	}
	for i := MaxClaims; i > 0; i-- { // so that the oldest is not the first by id
		id := fmt.Sprintf("tab-%02d", i)
		must(step(Event{Kind: EventConnect, Conn: id}))
		must(claim(id))
	}
	require.Len(t, s.Claims, MaxClaims)
	for _, id := range []string{"tab-05", "tab-20"} {
		must(step(Event{Kind: EventDisconnect, Conn: id, Cause: CauseClosed}))
	}
	must(step(Event{Kind: EventEndClaim, Conn: "tab-01", Actor: Agent(ann)}))
	must(claim("tab-01"))
	require.Len(t, s.Claims, MaxClaims)
	now = now.Add(policy.Grace.Close)
	must(step(Event{Kind: EventTick}))
	require.Len(t, s.Conns, MaxClaims-2)

	must(step(Event{Kind: EventConnect, Conn: "new"}))
	require.Equal(t, []string{"tab-20"}, madeRoom(must(claim("new"))))
	require.Len(t, s.Claims, MaxClaims)
	require.Empty(t, madeRoom(must(claim("tab-01"))), "a claim that replaces one needs no room")
	require.Equal(t, []string{"tab-05"}, madeRoom(must(step(Event{Kind: EventSetClaim, Actor: Supervisor(ID("kim")), Claim: Claim{Status: "away"}}))))
	before := s.own()
	_, err := step(Event{Kind: EventSetClaim, Actor: System(ID("calendar")), Claim: Claim{Status: "busy", Source: SourceCalendar}})
	require.ErrorIs(t, err, ErrLimit)
	require.Equal(t, before, s.own())
}

// Every field that an audience, the host or a later step reads is compared, so that each
// change of a presence is reported.
func TestPresencesAreComparedWhole(t *testing.T) {
	follow := []string{"Since", "Routable"} // from the status, and from Routing
	require.True(t, samePresence(&Presence{}, &Presence{}))
	of := reflect.TypeFor[Presence]()
	for i := range of.NumField() {
		var p Presence
		name := of.Field(i).Name
		if name == "Subject" { // that of the state
			continue
		}
		vary(t, name, reflect.ValueOf(&p).Elem().Field(i))
		require.Equal(t, slices.Contains(follow, name), samePresence(&Presence{}, &p), name)
	}
}

// H4: an event may carry each word of its list. A refusal of another word names them all.
func TestWordsOfEvents(t *testing.T) {
	for _, tt := range []struct {
		allowed []string
		empty   bool // is a word too
		event   func(word string) Event
	}{
		{[]string{"human", "bot", "service"}, true, func(w string) Event { return Event{Kind: EventConnect, Conn: "tab", SubjectKind: SubjectKind(w)} }},
		{[]string{"push", "bot", "service"}, false, func(w string) Event {
			return Event{Kind: EventEndpoint, Endpoint: Endpoint{ID: "p", Kind: EndpointKind(w)}}
		}},
		{[]string{"logout", "closed", "lost", "node", "drain"}, false, func(w string) Event { return Event{Kind: EventDisconnect, Conn: "tab", Cause: Cause(w)} }},
		{[]string{"node", "drain"}, true, func(w string) Event { return Event{Kind: EventNodeDown, Node: "n", Cause: Cause(w)} }},
		{[]string{"all", "sticky", "transfer", "last", "none"}, true, func(w string) Event { return Event{Kind: EventOffer, Routing: Routing(w)} }},
		{wordsOf(roles), true, func(w string) Event { return Event{Kind: EventDecide, Actor: Actor{Role: Role(w)}} }},
		{wordsOf(audiences), false, func(w string) Event {
			return Event{Kind: EventSetClaim, Claim: Claim{HidesFrom: []Audience{Audience(w)}}}
		}},
	} {
		for _, word := range append([]string{"other", ""}, tt.allowed...) {
			e := tt.event(word)
			err := e.validate()
			if word != "other" && (word != "" || tt.empty) {
				require.NoError(t, err, "%s %q", e.Kind, word)
				continue
			}
			var refusal *Error
			require.ErrorAs(t, err, &refusal, "%s %q", e.Kind, word)
			require.Equal(t, ErrInvalid, refusal.Err)
			require.Equal(t, word, refusal.Given)
			require.ElementsMatch(t, tt.allowed, refusal.Allowed, "%s", e.Kind)
		}
	}
}

// H4: what lies on a limit is valid, and no kind checks what it does not read.
func TestEventsOnTheirLimitsAreValid(t *testing.T) {
	const bad = "a\nb"
	for i, e := range []Event{
		{Kind: EventSuspended, From: 2, To: 2},
		{Kind: EventHeartbeat, Conn: "tab", Age: NoAge},
		{Kind: EventChallenge, Claim: Claim{For: 1}},
		{Kind: EventOffer, Load: Load{N: maxLoad}},
		{Kind: EventDone, Load: Load{N: maxLoad + 1}},
		{Kind: EventSetClaim, Claim: Claim{For: 1}},
		{Kind: EventSetClaim, Claim: Claim{Until: 1}},
		{Kind: EventSetClaim, Conn: "tab"},
		{Kind: EventSetClaim, Claim: Claim{Conn: "tab"}},
		{Kind: EventSetClaim, Conn: "tab", Claim: Claim{Conn: "tab"}},
		{Kind: EventEndClaim, Conn: "tab", Claim: Claim{Conn: "other"}},
		{Kind: EventRequest, Conn: bad},
		{Kind: EventWithdraw, Conn: bad, Claim: Claim{For: -1}},
		{Kind: EventDecide, Conn: bad, Claim: Claim{For: -1}},
		{Kind: EventInput, Conn: "tab", Age: -9, Channel: bad},
		{Kind: EventVisible, Conn: "tab", Age: -9, Channel: bad},
		{Kind: EventHeartbeat, Conn: "tab", Channel: bad},
		{Kind: EventFocus, Conn: "tab", Age: -9},
		{Kind: EventDisconnect, Conn: "tab", Cause: CauseLost, Device: bad, Node: bad, Age: -9, SubjectKind: "ghost"},
		{Kind: EventLogout, Cause: CauseIdle, Device: bad, Age: -9},
		{Kind: EventNodeUp, Node: "n", Cause: CauseIdle},
		{Kind: EventEndpoint, Remove: true, SubjectKind: "ghost", Endpoint: Endpoint{ID: "p", Kind: "pigeon"}},
		{Kind: EventAck, Claim: Claim{For: -1}, Load: Load{N: -1}},
		{Kind: EventLoad, Routing: "somehow", ID: bad},
		{Kind: EventDone, Routing: "somehow", ID: bad},
	} {
		require.NoError(t, e.validate(), "%d: %s", i, e.Kind)
	}
	for _, c := range []Claim{{For: -1}, {For: 1, Until: 1}, {For: 1, Until: -1}} {
		require.ErrorIs(t, c.validate(), ErrInvalid, "%+v", c)
	}
	for _, e := range []Event{{Kind: EventChallenge, Claim: Claim{For: -1}}, {Kind: EventOffer, Load: Load{N: maxLoad + 1}}, {Kind: EventHeartbeat, Conn: "tab", Age: NoAge - 1}, {Kind: EventSuspended, From: 2, To: 1}} {
		require.ErrorIs(t, e.validate(), ErrInvalid, "%+v", e)
	}
}

// A transition by a deadline is named by its kind and instant, with or without a name
// that other subjects share.
func TestDeadlinesNameTheirTransitions(t *testing.T) {
	shared := new(transitionName)
	for _, last := range []*transitionName{nil, shared} {
		st := stepper{lastName: last}
		for _, tt := range []struct {
			kind deadlineKind
			at   Instant
			want string
		}{
			{deadlineUntil, 0, "until@0"}, {deadlineIdle, 50, "idle@50"}, {deadlineIdle, 50, "idle@50"}, {deadlineIdle, 61, "idle@61"}, {deadlineGrace, 61, "grace@61"},
			{deadlineChallenge, 7, "challenge@7"}, {deadlineLease, 7, "lease@7"}, {deadlineRequeue, 7, "requeue@7"}, {deadlineWrapUp, 7, "wrap-up@7"},
		} {
			require.Equal(t, tt.want, st.timedID(tt.kind, tt.at))
		}
	}
	require.Equal(t, transitionName{deadlineWrapUp, 7, "wrap-up@7"}, *shared)
	require.Equal(t, "112", voiceOf(&Claim{Serial: 112}), "stored, so in decimal for good")
	require.Equal(t, "default", voiceOf(nil))
}

// A driver may note inputs without a step only by these terms.
func TestTermsForNotedInputs(t *testing.T) {
	p := DefaultPolicy()
	p.Lease = 70 * time.Second
	p.Idle = []IdleStage{{After: 9 * time.Minute, To: "offline", On: []string{"available"}}, {After: time.Minute, To: "away", On: []string{"available", "busy"}}}
	for _, input := range []bool{true, false} {
		for devices := range 3 {
			if p.Activity = []string{ActivityLogin}; input {
				p.Activity = append(p.Activity, ActivityInput)
			}
			p.Devices = nil
			for i := range devices {
				if p.Devices == nil {
					p.Devices = make(map[string]DeviceRule)
				}
				p.Devices[fmt.Sprint("d", i)] = DeviceRule{IgnoreInput: true}
			}
			lease, patience, stages, ignores := must(Compile(p)).terms()
			require.Equal(t, 70*time.Second, lease)
			require.Equal(t, map[bool]time.Duration{true: time.Minute}[input], patience)
			require.Equal(t, []time.Duration{time.Minute, 9 * time.Minute}, stages)
			require.Equal(t, devices > 0, ignores)
		}
	}
}

// everyInstant calls f with each instant below a value, with the name of its field. It
// fills empty lists and pointers, so that none is missed.
func everyInstant(v reflect.Value, name string, f func(name string, at reflect.Value)) {
	if v.Type() == reflect.TypeFor[Instant]() {
		f(name, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		everyInstant(v.Elem(), name, f)
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		for i := range v.Len() {
			everyInstant(v.Index(i), name, f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			everyInstant(v.Field(i), v.Type().Field(i).Name, f)
		}
	}
}

// Between the clock of a process and that of a record, every instant that has passed
// is moved, no end and no revision is, and nothing of the state is changed.
func TestRecordMovesWhatHasPassed(t *testing.T) {
	var d, same durable
	n := Instant(0)
	number := func(_ string, at reflect.Value) { n++; at.SetInt(int64(n)) }
	everyInstant(reflect.ValueOf(&d), "", number)
	n = 0
	everyInstant(reflect.ValueOf(&same), "", number)
	before := d
	d.move(func(at Instant) Instant { return at + 1000 })
	require.Equal(t, same, before, "lists of the state were changed in place")
	n = 0
	everyInstant(reflect.ValueOf(&d), "", func(name string, at reflect.Value) {
		n++
		want := n
		if name != "Until" && name != "Revision" && name != "Requeued" {
			want += 1000
		}
		require.Equal(t, want, at.Interface(), "%s, the instant %d", name, n)
	})
	require.Greater(t, n, Instant(20))
	var none durable
	none.move(func(Instant) Instant { return 5 })
	require.Equal(t, durable{}, none, "none is none at any clock")
}

// What a process whose clock was set back stores is read by one whose clock was set
// back by more as the same: what has passed as long ago, what ends at the same instant
// of the wall clock.
func TestRecordBetweenClocks(t *testing.T) {
	p := DefaultPolicy()
	p.Hideable = []Audience{AudienceTeam}
	require.NoError(t, p.Set("statuses.away.drainsFirst", "true"))
	m := must(Compile(p))
	ann, now := ID("ann"), At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	var s State
	do := func(e Event) {
		t.Helper()
		now = now.Add(time.Second)
		e.Subject, e.Actor = ann, Agent(ann)
		_, _, err := m.Step(&s, &e, now, nil)
		require.NoError(t, err)
	}
	do(Event{Kind: EventLogin, Conn: "tab", Age: NoAge})
	do(Event{Kind: EventClock, From: now, To: now.Add(-time.Hour)})
	do(Event{Kind: EventLoad, Load: Load{N: 1}})
	do(Event{Kind: EventRequest, Claim: Claim{Status: "busy"}})
	do(Event{Kind: EventSetClaim, Claim: Claim{Status: "away", For: 10 * time.Minute, Key: KeyTimed, HidesFrom: []Audience{AudienceTeam}}})
	do(Event{Kind: EventEndpoint, Endpoint: Endpoint{ID: "phone", Kind: EndpointPush, Until: now}})
	do(Event{Kind: EventLogout})
	record, err := m.Record(&s, 1)
	require.NoError(t, err)
	const more = 3 * time.Hour
	there, err := record.State(now.Add(more), time.Hour+more)
	require.NoError(t, err)
	require.Equal(t, time.Hour+more, there.Behind)
	require.Equal(t, s.Now.Add(more), there.Now)
	require.Equal(t, s.Current.Since.Add(more), there.Current.Since)
	require.Equal(t, s.LeftAt.Add(more), there.LeftAt)
	require.Equal(t, s.LoggedIn.Add(more), there.LoggedIn)
	require.Equal(t, m.lastInput(&s).Add(more), there.Input)
	require.Equal(t, s.Current.Revision, there.Current.Revision)
	require.Equal(t, s.Endpoints[0].Since.Add(more), there.Endpoints[0].Since)
	require.Equal(t, s.Endpoints[0].Until, there.Endpoints[0].Until)
	require.Equal(t, s.Work.Pending.SetAt.Add(more), there.Work.Pending.SetAt)
	require.Equal(t, s.Current.seen[0].Since.Add(more), there.Current.seen[0].Since)
	again, err := m.Record(&there, 1)
	require.NoError(t, err)
	require.Equal(t, string(record.Data), string(again.Data))
}

// L18: of a record that is more than 2 s ahead what has passed happens now, the last
// input keeps its age, and ends stay. That holds for records without the instant at
// which they were written, too. One that is less ahead is of a clock that is as good as this one.
func TestRecordFromTheFuture(t *testing.T) {
	m := must(Compile(DefaultPolicy()))
	ann, wrote := ID("ann"), At(time.Date(2027, 1, 5, 9, 0, 0, 0, time.UTC))
	var s State
	for i, e := range []Event{
		{Kind: EventLogin, Conn: "tab", Age: NoAge},
		{Kind: EventSetClaim, Actor: Agent(ann), Claim: Claim{Status: "busy", For: time.Hour}},
		{Kind: EventEndpoint, Endpoint: Endpoint{ID: "phone", Kind: EndpointPush}},
	} {
		e.Subject = ann
		_, _, err := m.Step(&s, &e, wrote.Add(time.Duration(i-3)*time.Minute), nil)
		require.NoError(t, err)
	}
	_, _, err := m.Step(&s, &Event{}, wrote, nil)
	require.NoError(t, err)
	record, err := m.Record(&s, 1)
	require.NoError(t, err)
	old := record
	old.Data = []byte(strings.Replace(string(record.Data), fmt.Sprintf(`"at":%q,`, wrote), "", 1))
	require.NotEqual(t, record.Data, old.Data)
	for _, behind := range []time.Duration{0, time.Hour} {
		for _, tt := range []struct {
			name  string
			r     Record
			ahead time.Duration
			moved bool
			age   time.Duration // of the last input
		}{
			{"a year", record, 365 * 24 * time.Hour, true, 3 * time.Minute},
			{"just too much", record, 2*time.Second + 1, true, 3 * time.Minute},
			{"little", record, 2 * time.Second, false, 3 * time.Minute},
			{"not", record, -time.Second, false, 3 * time.Minute},
			{"a year, of an older kind", old, 365 * 24 * time.Hour, true, 2 * time.Minute}, // as of its latest instant
			{"not, of an older kind", old, -time.Second, false, 3 * time.Minute},
		} {
			t.Run(fmt.Sprint(tt.name, behind), func(t *testing.T) {
				now := wrote.Add(behind - tt.ahead) // the time of the process that reads it
				got, err := tt.r.State(now, behind)
				require.NoError(t, err)
				moved := func(at Instant) Instant {
					if at = at.Add(behind); tt.moved {
						at = min(at, now)
					}
					return at
				}
				require.Equal(t, moved(s.Current.Since), got.Current.Since)
				require.Equal(t, moved(s.LoggedIn), got.LoggedIn)
				require.Equal(t, moved(s.Claims[0].SetAt), got.Claims[0].SetAt)
				require.Equal(t, moved(s.Endpoints[0].Since), got.Endpoints[0].Since)
				require.LessOrEqual(t, got.Now, max(now, moved(wrote)), "time goes on from now")
				at := now
				if !tt.moved {
					at = wrote.Add(behind)
				}
				require.Equal(t, at.Add(-tt.age), got.Input)
				require.Equal(t, s.Claims[0].Until, got.Claims[0].Until)
				require.Equal(t, s.Current.Revision, got.Current.Revision, "it counts, and rises")
				require.Equal(t, behind, got.Behind)
			})
		}
	}
}
