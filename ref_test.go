package presence_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
	"github.com/presence-go/presence/report"
	"github.com/presence-go/presence/routing"
	"github.com/presence-go/presence/schedule"
)

// whats are the words of Error.What. A design that needs another adds it here.
var whats = strings.Fields(`subject channel connection epoch status claim key source reason text until audience role actor kind
	device node endpoint request challenge work revision record policy tenant option event storage authorizer watch tracker notification
	time view count
	client plan`) // the last two of routing, schedule

var sentinels = []error{
	presence.ErrInvalid, presence.ErrUnknown, presence.ErrNotAllowed, presence.ErrOffline, presence.ErrDisabled, presence.ErrLimit,
	presence.ErrStale, presence.ErrClosed, presence.ErrUnavailable, presence.ErrConflict,
}

// refused is what calls that must be refused have to work with. Ann is connected,
// and a member of sales.
type refused struct {
	*testing.T
	ctx     context.Context
	tracker *presence.Tracker
	down    *presence.Tracker // over storage that fails
	closed  *presence.Tracker
	conn    *presence.Conn // of ann
	watch   *presence.Watch
	state   presence.State // of ann
	machine *presence.Machine
}

// downStorage fails every call.
type downStorage struct{}

var errDown = errors.New("the database is down")

func (downStorage) Load(context.Context, ...presence.Ref) ([]presence.Record, error) {
	return nil, errDown
}
func (downStorage) Save(context.Context, ...presence.Write) error        { return errDown }
func (downStorage) Append(context.Context, ...presence.JournalRow) error { return errDown }
func (downStorage) Delete(context.Context, ...presence.Ref) error        { return errDown }

func newRefused(t *testing.T) *refused {
	t.Helper()
	f := &refused{T: t, ctx: t.Context()}
	for _, at := range []**presence.Tracker{&f.tracker, &f.down, &f.closed} {
		opts := &presence.Options{}
		if at == &f.down {
			opts.Storage = downStorage{}
		}
		tracker, err := presence.New(opts)
		require.NoError(t, err)
		t.Cleanup(func() { _ = tracker.Close() })
		*at = tracker
	}
	require.NoError(t, f.closed.Close())
	var err error
	f.conn, err = f.tracker.Connect(f.ctx, ann, presence.ConnectOptions{ID: "tab"})
	require.NoError(t, err)
	require.NoError(t, f.tracker.AddMember(f.ctx, sales, ann))
	f.watch, err = f.tracker.Watch(f.ctx, presence.Agent(ann), sales, presence.WatchOptions{})
	require.NoError(t, err)
	f.state, err = f.tracker.State(f.ctx, ann)
	require.NoError(t, err)
	f.machine = f.tracker.Machine("")
	return f
}

// left returns a connection of ann whose handle has left.
func (f *refused) left() *presence.Conn {
	require.NoError(f, f.conn.Close())
	return f.conn
}

var (
	tooLong = strings.Repeat("x", presence.MaxID+1)
	acme    = presence.Ref{Tenant: "acme", ID: "ann"}
	kim     = presence.Supervisor(presence.ID("kim"))
	root    = presence.Admin(presence.ID("root"))
	stays   = presence.Notification{Subject: ann, Kind: "push"}
	noOne   = presence.ID("none")
	noRoom  = presence.ChannelID(tooLong)
	noRole  = presence.Actor{Subject: ann, Role: "king"}
	seldom  = presence.Status{ID: "lunch", Class: "meal"}
	lunched = presence.Claim{Status: "lunhc"}
)

func errorOf[T any](_ T, err error) error { return err }

func errorOf3[T, U any](_ T, _ U, err error) error { return err }

// last returns the error by which a sequence ends.
func last[T any](seq func(func(T, error) bool)) (err error) {
	for _, e := range seq {
		err = e
	}
	return err
}

// refusals call each exported function of the root that can fail, in ways that it
// refuses.
var refusals = map[string][]func(f *refused) error{
	"New": {
		func(*refused) error {
			return errorOf(presence.New(&presence.Options{Policy: &presence.Policy{}, WatchBuffer: -1, StorageTimeout: -1}))
		},
		func(*refused) error { return errorOf(presence.New(&presence.Options{Node: tooLong})) },
	},
	"Compile": {
		func(*refused) error { return errorOf(presence.Compile(presence.Policy{})) },
		func(*refused) error {
			p := presence.DefaultPolicy()
			p.Statuses = append(p.Statuses, seldom)
			return errorOf(presence.Compile(p))
		},
	},
	"ParsePolicy": {
		func(*refused) error { return errorOf3(presence.ParsePolicy([]byte(`{`), nil)) },
		func(*refused) error {
			return errorOf3(presence.ParsePolicy([]byte(`{"version":1,"extends":"none"}`), nil))
		},
		func(*refused) error {
			return errorOf3(presence.ParsePolicy([]byte(`{"version":1,"statuses":[{"id":1}],"login":7}`), nil))
		},
	},
	"Policy.Set": {func(*refused) error { p := presence.DefaultPolicy(); return p.Set("none.such", "1") }},
	"Policy.RemoveStatus": {
		func(*refused) error { p := presence.DefaultPolicy(); return p.RemoveStatus("lunhc", "") },
	},
	"Policy.UnmarshalJSON":       {func(*refused) error { return new(presence.Policy).UnmarshalJSON([]byte(`[`)) }},
	"Instant.UnmarshalText":      {func(*refused) error { return new(presence.Instant).UnmarshalText([]byte("noon")) }},
	"View.UnmarshalJSON":         {func(*refused) error { return new(presence.View).UnmarshalJSON([]byte(`[]`)) }},
	"Count.UnmarshalJSON":        {func(*refused) error { return new(presence.Count).UnmarshalJSON([]byte(`"many"`)) }},
	"WorkChannels.UnmarshalJSON": {func(*refused) error { return new(presence.WorkChannels).UnmarshalJSON([]byte(`"calls"`)) }},
	"Claim.UnmarshalJSON": {
		func(*refused) error { return new(presence.Claim).UnmarshalJSON([]byte(`{"for":"soon"}`)) },
		func(*refused) error { return new(presence.Claim).UnmarshalJSON([]byte(`{"for":{}}`)) },
		func(*refused) error { return new(presence.Claim).UnmarshalJSON([]byte(`[]`)) },
	},
	"Record.State": {
		func(*refused) error {
			return errorOf(presence.Record{Subject: ann, Data: []byte(`{`)}.State(0, 0))
		},
		func(*refused) error {
			return errorOf(presence.Record{Subject: ann, Data: []byte(`{"version":99}`)}.State(0, 0))
		},
	},
	"Machine.Step": {
		func(f *refused) error {
			return errorOf3(f.machine.Step(&f.state, &presence.Event{Kind: 99}, f.tracker.Now(), nil))
		},
		func(f *refused) error {
			return errorOf3(f.machine.Step(&f.state, &presence.Event{Kind: presence.EventHeartbeat, Subject: bob, Conn: "tab"}, f.tracker.Now(), nil))
		},
		func(f *refused) error {
			return errorOf3(f.machine.Step(&f.state, &presence.Event{Kind: presence.EventAck, ID: "none"}, f.tracker.Now(), nil))
		},
	},
	"Conn.Heartbeat": {
		func(f *refused) error { return f.left().Heartbeat() },
		func(f *refused) error { require.NoError(f, f.tracker.Logout(f.ctx, ann)); return f.conn.Heartbeat() },
		func(f *refused) error {
			require.NoError(f, errorOf(f.conn.Resume(f.ctx)))
			return f.conn.Heartbeat()
		},
	},
	"Conn.Report":  {func(f *refused) error { return f.left().Report(1, 0) }},
	"Conn.Input":   {func(f *refused) error { return f.left().Input() }},
	"Conn.Focus":   {func(f *refused) error { return f.conn.Focus(tooLong) }, func(f *refused) error { return f.left().Focus("x") }},
	"Conn.Visible": {func(f *refused) error { return f.left().Visible(true) }},
	"Conn.Claim": {
		func(f *refused) error { return errorOf(f.conn.Claim(f.ctx, lunched)) },
		func(f *refused) error {
			return errorOf(f.conn.Claim(f.ctx, presence.Claim{Status: "busy", Text: strings.Repeat("x", presence.MaxText+1)}))
		},
		func(f *refused) error { return errorOf(f.left().Claim(f.ctx, presence.Claim{Status: "busy"})) },
		func(f *refused) (err error) {
			for range 11 {
				err = errorOf(f.conn.Claim(f.ctx, presence.Claim{Status: "busy"}))
			}
			return err
		},
	},
	"Conn.EndClaim": {
		func(f *refused) error { return errorOf(f.conn.EndClaim(f.ctx, tooLong)) },
		func(f *refused) error { return errorOf(f.left().EndClaim(f.ctx, "")) },
	},
	"Conn.Resume": {func(f *refused) error {
		require.NoError(f, f.tracker.Disable(f.ctx, ann))
		return errorOf(f.conn.Resume(f.ctx))
	}},
	"Conn.Leave":  {func(f *refused) error { return f.conn.Leave("bored") }, func(f *refused) error { return f.left().Leave(presence.CauseLost) }},
	"Conn.Close":  {func(f *refused) error { return f.left().Close() }},
	"Conn.Logout": {func(f *refused) error { return f.left().Logout() }},
	"Watch.Next": {
		func(f *refused) error { require.NoError(f, f.watch.Close()); return errorOf(f.watch.Next(f.ctx)) },
		func(f *refused) (err error) {
			require.NoError(f, f.tracker.RemoveMember(f.ctx, sales, ann))
			for err == nil {
				_, err = f.watch.Next(f.ctx)
			}
			return err
		},
		func(f *refused) (err error) {
			require.NoError(f, f.tracker.Close())
			for err == nil {
				_, err = f.watch.Next(f.ctx)
			}
			return err
		},
	},
	"Watch.Poll": {func(f *refused) error { require.NoError(f, f.watch.Close()); return errorOf(f.watch.Poll()) }},
	"Watch.Stream": {func(f *refused) error {
		require.NoError(f, f.watch.Close())
		return f.watch.Stream(f.ctx, new(presencetest.RecordingTransport))
	}},
	"Watch.Close": {func(f *refused) error { require.NoError(f, f.watch.Close()); return f.watch.Close() }},
	"Tracker.Run": {
		func(f *refused) error {
			go func() { _ = f.tracker.Run(f.ctx) }()
			synctest.Wait()
			return f.tracker.Run(f.ctx)
		},
	},
	"Tracker.Sweep": {func(f *refused) error { return errorOf(f.closed.Sweep(f.ctx)) }},
	"Tracker.Close": {func(f *refused) error { return f.closed.Close() }},
	"Tracker.Connect": {
		func(f *refused) error {
			return errorOf(f.tracker.Connect(f.ctx, presence.Ref{}, presence.ConnectOptions{}))
		},
		func(f *refused) error {
			return errorOf(f.tracker.Connect(f.ctx, ann, presence.ConnectOptions{ID: tooLong}))
		},
		func(f *refused) error {
			return errorOf(f.tracker.Connect(f.ctx, ann, presence.ConnectOptions{Kind: "cat"}))
		},
		func(f *refused) error { return errorOf(f.down.Connect(f.ctx, ann, presence.ConnectOptions{})) },
		func(f *refused) error {
			require.NoError(f, f.tracker.Erase(f.ctx, ann))
			return errorOf(f.tracker.Connect(f.ctx, ann, presence.ConnectOptions{}))
		},
	},
	"Tracker.Heartbeat": {
		func(f *refused) error { return f.tracker.Heartbeat(noOne, "tab") },
		func(f *refused) error { return f.tracker.Heartbeat(ann, "none") },
		func(f *refused) error { return f.tracker.Heartbeat(ann, "") },
	},
	"Tracker.SetClaim": {
		func(f *refused) error {
			return errorOf(f.tracker.SetClaim(f.ctx, noRole, ann, presence.Claim{Status: "busy"}))
		},
		func(f *refused) error {
			return errorOf(f.tracker.SetClaim(f.ctx, kim, acme, presence.Claim{Status: "busy"}))
		},
		func(f *refused) error { return errorOf(f.tracker.SetClaim(f.ctx, kim, ann, lunched)) },
		func(f *refused) error {
			return errorOf(f.tracker.SetClaim(f.ctx, kim, noOne, presence.Claim{Status: "busy"}))
		},
		func(f *refused) error {
			return errorOf(f.tracker.SetClaim(f.ctx, presence.Agent(bob), ann, presence.Claim{Status: "busy"}))
		},
		func(f *refused) error {
			return errorOf(f.tracker.SetClaim(f.ctx, kim, ann, presence.Claim{Status: "busy", For: -1}))
		},
		func(f *refused) error {
			return errorOf(f.tracker.SetClaim(f.ctx, kim, ann, presence.Claim{Status: "busy", Source: "cat"}))
		},
		func(f *refused) error {
			return errorOf(f.down.SetClaim(f.ctx, kim, ann, presence.Claim{Status: "busy"}))
		},
	},
	"Tracker.EndClaim": {
		func(f *refused) error {
			return errorOf(f.tracker.EndClaim(f.ctx, presence.Agent(bob), ann, presence.Claim{}))
		},
		func(f *refused) error { return errorOf(f.tracker.EndClaim(f.ctx, kim, noOne, presence.Claim{})) },
	},
	"Tracker.Request": {
		func(f *refused) error { return errorOf(f.tracker.Request(f.ctx, presence.Agent(ann), ann, lunched)) },
		func(f *refused) error {
			return errorOf(f.tracker.Request(f.ctx, kim, ann, presence.Claim{Status: "busy"}))
		},
	},
	"Tracker.Withdraw": {
		func(f *refused) error { return errorOf(f.tracker.Withdraw(f.ctx, presence.Agent(ann), ann, "none")) },
		func(f *refused) error { return errorOf(f.tracker.Withdraw(f.ctx, presence.Agent(ann), ann, tooLong)) },
	},
	"Tracker.DecideRequest": {
		func(f *refused) error { return errorOf(f.tracker.DecideRequest(f.ctx, kim, ann, "none", true)) },
		func(f *refused) error {
			return errorOf(f.tracker.DecideRequest(f.ctx, presence.Agent(ann), ann, "", true))
		},
	},
	"Tracker.Get": {
		func(f *refused) error { return errorOf(f.tracker.Get(f.ctx, kim, acme)) },
		func(f *refused) error { return errorOf(f.tracker.Get(f.ctx, noRole, ann)) },
		func(f *refused) error { return errorOf(f.down.Get(f.ctx, kim, ann)) },
	},
	"Tracker.GetMany": {
		func(f *refused) error { return errorOf(f.tracker.GetMany(f.ctx, kim, make([]presence.Ref, 501)...)) },
		func(f *refused) error { return errorOf(f.tracker.GetMany(f.ctx, kim, ann, acme)) },
		func(f *refused) error { return errorOf(f.down.GetMany(f.ctx, kim, ann)) },
	},
	"Tracker.GetAs": {
		func(f *refused) error { return errorOf(f.tracker.GetAs(f.ctx, "cats", ann)) },
		func(f *refused) error {
			return errorOf(f.tracker.GetAs(f.ctx, presence.AudienceTeam, presence.ID(tooLong)))
		},
	},
	"Tracker.List": {
		func(f *refused) error { return errorOf3(f.tracker.List(f.ctx, presence.Agent(bob), sales)) },
		func(f *refused) error { return errorOf3(f.tracker.List(f.ctx, kim, presence.Channel(acme))) },
		func(f *refused) error { return errorOf3(f.tracker.List(f.ctx, kim, noRoom)) },
	},
	"Tracker.ListAs": {
		func(f *refused) error { return errorOf3(f.tracker.ListAs(f.ctx, presence.AudienceSelf, sales, nil)) },
		func(f *refused) error { return errorOf3(f.tracker.ListAs(f.ctx, "cats", sales, nil)) },
		func(f *refused) error { return errorOf3(f.tracker.ListAs(f.ctx, presence.AudienceTeam, noRoom, nil)) },
	},
	"Tracker.Explain": {
		func(f *refused) error { return errorOf(f.tracker.Explain(f.ctx, kim, noOne)) },
		func(f *refused) error { return errorOf(f.tracker.Explain(f.ctx, kim, acme)) },
	},
	"Tracker.ExplainAs": {func(f *refused) error { return errorOf(f.tracker.ExplainAs(f.ctx, "cats", ann)) }},
	"Tracker.MayReveal": {func(f *refused) error { return errorOf(f.tracker.MayReveal(f.ctx, "cats", ann)) }},
	"Tracker.State":     {func(f *refused) error { return errorOf(f.tracker.State(f.ctx, noOne)) }},
	"Tracker.Watch": {
		func(f *refused) error {
			return errorOf(f.tracker.Watch(f.ctx, presence.Agent(bob), sales, presence.WatchOptions{}))
		},
		func(f *refused) error { return errorOf(f.tracker.Watch(f.ctx, kim, noRoom, presence.WatchOptions{})) },
		func(f *refused) error {
			return errorOf(f.tracker.Watch(f.ctx, kim, sales, presence.WatchOptions{Audience: "cats"}))
		},
		func(f *refused) error {
			return errorOf(f.tracker.Watch(f.ctx, presence.Visitor(bob), sales, presence.WatchOptions{Audience: presence.AudienceTeam}))
		},
	},
	"Tracker.WatchSubject": {
		func(f *refused) error {
			return errorOf(f.tracker.WatchSubject(f.ctx, kim, noOne, presence.WatchOptions{}))
		},
		func(f *refused) error {
			return errorOf(f.tracker.WatchSubject(f.ctx, presence.Agent(bob), ann, presence.WatchOptions{Audience: presence.AudienceSelf}))
		},
	},
	"Tracker.AddMember": {
		func(f *refused) error { return f.tracker.AddMember(f.ctx, noRoom, ann) },
		func(f *refused) error { return f.tracker.AddMember(f.ctx, sales, acme) },
	},
	"Tracker.RemoveMember": {func(f *refused) error { return f.tracker.RemoveMember(f.ctx, sales, noOne) }},
	"Tracker.SetMembers":   {func(f *refused) error { return f.tracker.SetMembers(f.ctx, sales, ann, acme) }},
	"Tracker.Members":      {func(f *refused) error { return errorOf(f.tracker.Members(noRoom)) }},
	"Tracker.Belongs":      {func(f *refused) error { return errorOf(f.tracker.Belongs(f.ctx, acme, sales)) }},
	"Tracker.Link": {
		func(f *refused) error { return f.tracker.Link(f.ctx, sales, presence.Channel(acme)) },
		func(f *refused) error { return f.tracker.Link(f.ctx, noRoom, sales) },
	},
	"Tracker.Join": {
		func(f *refused) error { return f.tracker.Join(f.ctx, presence.Agent(bob), sales) },
		func(f *refused) error { return f.tracker.Join(f.ctx, presence.Visitor(bob), sales) },
	},
	"Tracker.SetHours": {func(f *refused) error { return f.tracker.SetHours(f.ctx, noRoom, nil) }},
	"Tracker.SetLoad": {
		func(f *refused) error { return f.tracker.SetLoad(f.ctx, ann, presence.Load{On: tooLong, N: 1}) },
		func(f *refused) error { return f.tracker.SetLoad(f.ctx, ann, presence.Load{N: -1}) },
	},
	"Tracker.SetEndpoint": {func(f *refused) error {
		return f.tracker.SetEndpoint(f.ctx, ann, presence.Endpoint{ID: "phone", Kind: "cat"})
	}},
	"Tracker.RemoveEndpoint": {func(f *refused) error { return f.tracker.RemoveEndpoint(f.ctx, ann, tooLong) }},
	"Tracker.Logout":         {func(f *refused) error { return f.tracker.Logout(f.ctx, presence.ID(tooLong)) }},
	"Tracker.Disable":        {func(f *refused) error { return f.tracker.Disable(f.ctx, presence.ID(tooLong)) }},
	"Tracker.Enable":         {func(f *refused) error { return f.tracker.Enable(f.ctx, presence.ID(tooLong)) }},
	"Tracker.Notify":         {func(f *refused) error { return f.tracker.Notify(f.ctx, stays) }},
	"Tracker.Gate": {
		func(f *refused) error {
			return errorOf(f.tracker.Gate(f.ctx, presence.Notification{Subject: ann, Kind: tooLong}))
		},
		func(f *refused) error { return errorOf(f.tracker.Gate(f.ctx, presence.Notification{Kind: "push"})) },
	},
	"Tracker.SetPolicy": {
		func(f *refused) error { return f.tracker.SetPolicy(f.ctx, kim, presence.DefaultPolicy()) },
		func(f *refused) error { return f.tracker.SetPolicy(f.ctx, root, presence.Policy{}) },
	},
	"Tracker.AddStatus": {
		func(f *refused) error { return f.tracker.AddStatus(f.ctx, root, seldom) },
		func(f *refused) error {
			return f.tracker.AddStatus(f.ctx, kim, presence.Status{ID: "lunch", Class: presence.ClassAway})
		},
	},
	"Tracker.RemoveStatus": {func(f *refused) error { return f.tracker.RemoveStatus(f.ctx, root, "lunhc", "") }},
	"Tracker.Journal": {
		func(f *refused) error { return last(f.tracker.Journal(f.ctx, presence.JournalQuery{})) },
		func(f *refused) error {
			return last(f.tracker.Journal(f.ctx, presence.JournalQuery{Subject: presence.ID(tooLong)}))
		},
		func(f *refused) error { return last(f.down.Journal(f.ctx, presence.JournalQuery{Subject: ann})) },
	},
	"Tracker.Erase": {
		func(f *refused) error { return f.down.Erase(f.ctx, ann) },
		func(f *refused) error { return f.tracker.Erase(f.ctx, presence.ID(tooLong)) },
	},
	"Tracker.Apply": {
		func(f *refused) error { return f.tracker.Apply(f.ctx, presence.Event{Kind: 99, Subject: ann}) },
		func(f *refused) error { return f.tracker.Apply(f.ctx, presence.Event{Kind: presence.EventNodeDown}) },
		func(f *refused) error {
			return f.tracker.Apply(f.ctx, presence.Event{Kind: presence.EventOffer, Subject: ann, Load: presence.Load{N: 1}, Revision: 1})
		},
		func(f *refused) error {
			return f.tracker.Apply(f.ctx, presence.Event{Kind: presence.EventChallenge, Subject: noOne})
		},
	},
	"Tracker.Reload": {func(f *refused) error { return f.closed.Reload(f.ctx) }},
}

// cannotFail are the exported functions of the root whose error is always nil.
var cannotFail = strings.Fields(`Frame.JSON View.MarshalJSON Count.MarshalJSON WorkChannels.MarshalJSON Instant.MarshalText Policy.JSON Policy.MarshalJSON Machine.Record`)

// otherRefusals are of the packages beside the root.
var otherRefusals = map[string]func(f *refused) error{
	"schedule.Parse": func(*refused) error { return errorOf(schedule.Parse("mon 9-17; someday closed")) },
	"schedule.New":   func(*refused) error { return errorOf(schedule.New(schedule.Plan{Zone: "Mars/Dust"}, nil)) },
	"Plan.Validate": func(*refused) error {
		return schedule.Plan{Zone: "Local", Exceptions: make([]schedule.Exception, 1)}.Validate()
	},
	"Week":          func(*refused) error { return new(schedule.Week).UnmarshalJSON([]byte(`{"someday":[]}`)) },
	"Week, no JSON": func(*refused) error { return new(schedule.Week).UnmarshalJSON([]byte(`[]`)) },
	"Date":          func(*refused) error { return new(schedule.Date).UnmarshalText([]byte("2026-02-30")) },
	"Span":          func(*refused) error { return new(schedule.Span).UnmarshalText([]byte("9-17")) },
	"report.Log":    func(f *refused) error { return last(report.Log(f.ctx, f.tracker.Journal, report.Query{})) },
	"report.Workload": func(f *refused) error {
		return last(report.Workload(f.ctx, f.tracker.Journal, report.Query{From: 1, To: 2000, Every: 1}))
	},
	"report.Spent": func(f *refused) error {
		return errorOf(report.Spent(f.ctx, f.tracker.Journal, presence.ID(tooLong), "busy", 1, 2))
	},
	"routing.New": func(*refused) error { return errorOf(routing.New(nil, &routing.Options{MaxWork: -1})) },
	"Queue.Add":   func(f *refused) error { return errorOf(f.queue().Add(f.ctx, routing.Work{ID: tooLong})) },
	"Queue.Add, To": func(f *refused) error {
		return errorOf(f.queue().Add(f.ctx, routing.Work{ID: "a", Channel: sales, To: acme}))
	},
	"Queue.Add, closed": func(f *refused) error {
		q, err := routing.New(f.tracker, &routing.Options{Open: func(presence.Channel, presence.Instant) (bool, presence.Instant) { return false, 9 }})
		require.NoError(f, err)
		return errorOf(q.Add(f.ctx, routing.Work{ID: "a", Channel: sales}))
	},
	"Queue.Assign":          func(f *refused) error { return errorOf(f.queue().Assign(f.ctx, kim, "none", ann)) },
	"Queue.Assign, visitor": func(f *refused) error { return errorOf(f.queue().Assign(f.ctx, presence.Visitor(bob), "none", ann)) },
	"Queue.Decline":         func(f *refused) error { return errorOf(f.queue().Decline(f.ctx, "none", ann)) },
	"Queue.Transfer":        func(f *refused) error { return errorOf(f.queue().Transfer(f.ctx, kim, "none", sales)) },
	"Queue.Start":           func(f *refused) error { return errorOf(f.queue().Start("none")) },
	"Queue.Finish":          func(f *refused) error { return errorOf(f.queue().Finish(f.ctx, "none")) },
	"Queue.Message":         func(f *refused) error { return errorOf(f.queue().Message(f.ctx, "none")) },
	"Queue.Ranked":          func(f *refused) error { return errorOf3(f.queue().Ranked(f.ctx, noRoom, "")) },
}

func (f *refused) queue() *routing.Queue {
	q, err := routing.New(f.tracker, nil)
	require.NoError(f, err)
	return q
}

// H10: every refusal of an exported call is an *Error with a listed What, or
// several joined.
func TestEveryRefusalIsAnError(t *testing.T) {
	for _, name := range fallible(t) {
		if !slices.Contains(cannotFail, name) {
			require.NotEmpty(t, refusals[name], "%s can fail: call it in a way that it refuses", name)
		}
	}
	for name, calls := range refusals {
		for _, call := range calls {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { requireRefusal(t, call(newRefused(t))) })
			})
		}
	}
	for name, call := range otherRefusals {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { requireRefusal(t, call(newRefused(t))) })
		})
	}
}

// fallible lists the exported functions and methods of the root that return an
// error, or a sequence with errors. Interfaces belong to others.
func fallible(t *testing.T) (names []string) {
	t.Helper()
	readRepository(t).exported(func(name string, object types.Object, receiver *types.TypeName) {
		f, ok := object.(*types.Func)
		if !ok || receiver != nil && types.IsInterface(receiver.Type()) {
			return
		}
		for result := range f.Signature().Results().Variables() {
			if text := result.Type().String(); text == "error" || strings.HasSuffix(text, ", error]") {
				names = append(names, name)
			}
		}
	})
	require.Greater(t, len(names), 60)
	return names
}

// requireRefusal checks an error, or each of several joined.
func requireRefusal(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	if _, ok := err.(*presence.Error); !ok {
		joined, ok := err.(interface{ Unwrap() []error })
		require.True(t, ok, "%T: %v", err, err)
		require.NotEmpty(t, joined.Unwrap())
		for _, one := range joined.Unwrap() {
			requireRefusal(t, one)
		}
		return
	}
	refusal := err.(*presence.Error)
	require.Contains(t, whats, refusal.What, err.Error())
	require.Contains(t, sentinels, refusal.Err, err.Error())
	require.ErrorIs(t, err, refusal.Err)
	require.LessOrEqual(t, len(refusal.Given), 128)
	require.True(t, strings.HasPrefix(err.Error(), "presence: "+refusal.Err.Error()+" "+refusal.What), err.Error())
	require.NotContains(t, err.Error(), "\n")
}

// H3: a call with channel and subject swapped does not compile.
func TestChannelsAreNoSubjects(t *testing.T) {
	imports := exports(t, ".")
	for call, compiles := range map[string]bool{
		"t.AddMember(nil, c, s)": true, "t.AddMember(nil, s, c)": false,
		"t.RemoveMember(nil, c, s)": true, "t.RemoveMember(nil, s, c)": false,
		"t.SetMembers(nil, c, s)": true, "t.SetMembers(nil, s, c)": false,
		"t.Members(c)": true, "t.Members(s)": false,
		"t.Get(nil, by, s)": true, "t.Get(nil, by, c)": false,
		"t.List(nil, by, c)": true, "t.List(nil, by, s)": false,
		"t.Watch(nil, by, c, o)": true, "t.Watch(nil, by, s, o)": false,
		"t.WatchSubject(nil, by, s, o)": true, "t.WatchSubject(nil, by, c, o)": false,
	} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "x.go", `package x
import . "github.com/presence-go/presence"
func f(t *Tracker, by Actor, s Ref, c Channel, o WatchOptions) { `+call+` }`, 0)
		require.NoError(t, err)
		_, err = (&types.Config{Importer: fromExports(fset, imports)}).Check("x", fset, []*ast.File{file}, nil)
		if compiles {
			require.NoError(t, err, call)
		} else {
			require.ErrorContains(t, err, "cannot use", call)
		}
	}
}

// A call that waits returns its context's cause.
func TestCallsReturnTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRefused(t)
		why := errors.New("the page was closed")
		ctx, cancel := context.WithCancelCause(f.ctx)
		cancel(why)
		require.Equal(t, why, f.tracker.Run(ctx))
		_, err := f.watch.Next(ctx) // the snapshot
		require.NoError(t, err)
		_, err = f.watch.Next(ctx)
		require.Equal(t, why, err)
	})
}

// A closed tracker refuses every call that can change or wait for something.
func TestClosedTrackerRefuses(t *testing.T) {
	claim := presence.Claim{Status: "busy"}
	agent := presence.Agent(ann)
	for name, call := range map[string]func(f *refused) error{
		"Run":           func(f *refused) error { return f.closed.Run(f.ctx) },
		"Sweep":         func(f *refused) error { return errorOf(f.closed.Sweep(f.ctx)) },
		"Close":         func(f *refused) error { return f.closed.Close() },
		"Connect":       func(f *refused) error { return errorOf(f.closed.Connect(f.ctx, ann, presence.ConnectOptions{})) },
		"Heartbeat":     func(f *refused) error { return f.closed.Heartbeat(ann, "tab") },
		"SetClaim":      func(f *refused) error { return errorOf(f.closed.SetClaim(f.ctx, agent, ann, claim)) },
		"EndClaim":      func(f *refused) error { return errorOf(f.closed.EndClaim(f.ctx, agent, ann, claim)) },
		"Request":       func(f *refused) error { return errorOf(f.closed.Request(f.ctx, agent, ann, claim)) },
		"Withdraw":      func(f *refused) error { return errorOf(f.closed.Withdraw(f.ctx, agent, ann, "")) },
		"DecideRequest": func(f *refused) error { return errorOf(f.closed.DecideRequest(f.ctx, kim, ann, "", true)) },
		"Get":           func(f *refused) error { return errorOf(f.closed.Get(f.ctx, agent, ann)) },
		"GetMany":       func(f *refused) error { return errorOf(f.closed.GetMany(f.ctx, agent, ann)) },
		"List":          func(f *refused) error { return errorOf3(f.closed.List(f.ctx, kim, sales)) },
		"Explain":       func(f *refused) error { return errorOf(f.closed.Explain(f.ctx, agent, ann)) },
		"Watch":         func(f *refused) error { return errorOf(f.closed.Watch(f.ctx, kim, sales, presence.WatchOptions{})) },
		"WatchSubject": func(f *refused) error {
			return errorOf(f.closed.WatchSubject(f.ctx, kim, ann, presence.WatchOptions{}))
		},
		"AddMember":  func(f *refused) error { return f.closed.AddMember(f.ctx, sales, ann) },
		"SetMembers": func(f *refused) error { return f.closed.SetMembers(f.ctx, sales) },
		"Link":       func(f *refused) error { return f.closed.Link(f.ctx, sales, presence.ChannelID("crew")) },
		"Join":       func(f *refused) error { return f.closed.Join(f.ctx, agent, sales) },
		"SetHours":   func(f *refused) error { return f.closed.SetHours(f.ctx, sales, nil) },
		"Disable":    func(f *refused) error { return f.closed.Disable(f.ctx, ann) },
		"Gate":       func(f *refused) error { return errorOf(f.closed.Gate(f.ctx, stays)) },
		"SetPolicy":  func(f *refused) error { return f.closed.SetPolicy(f.ctx, root, presence.DefaultPolicy()) },
		"Apply": func(f *refused) error {
			return f.closed.Apply(f.ctx, presence.Event{Kind: presence.EventGrant, Subject: ann})
		},
		"Journal": func(f *refused) error { return last(f.closed.Journal(f.ctx, presence.JournalQuery{Subject: ann})) },
		"Erase":   func(f *refused) error { return f.closed.Erase(f.ctx, ann) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refusal, ok := errors.AsType[*presence.Error](call(newRefused(t)))
				require.True(t, ok)
				require.Equal(t, presence.Error{Err: presence.ErrClosed, What: "tracker"}, *refusal)
			})
		})
	}
}

// H10: a hidden subject and one that left give equal errors, field by field,
// but for the name. A visitor, whom it is hidden from, gets equal answers.
func TestHiddenRefusesAsLeft(t *testing.T) {
	tracker, ctx := crowd(t, presence.Options{}), t.Context()
	hidden, left, eve := bob, presence.ID("cyd"), presence.ID("eve")
	busy := presence.Claim{Status: "busy"}
	for _, by := range []presence.Actor{presence.Agent(eve), presence.Visitor(eve)} {
		watch := func(subject presence.Ref, a presence.Audience) error {
			return errorOf(tracker.WatchSubject(ctx, by, subject, presence.WatchOptions{Audience: a}))
		}
		for name, call := range map[string]func(subject presence.Ref) error{
			"SetClaim":      func(s presence.Ref) error { return errorOf(tracker.SetClaim(ctx, by, s, busy)) },
			"typing error":  func(s presence.Ref) error { return errorOf(tracker.SetClaim(ctx, by, s, lunched)) },
			"EndClaim":      func(s presence.Ref) error { return errorOf(tracker.EndClaim(ctx, by, s, busy)) },
			"Request":       func(s presence.Ref) error { return errorOf(tracker.Request(ctx, by, s, busy)) },
			"Withdraw":      func(s presence.Ref) error { return errorOf(tracker.Withdraw(ctx, by, s, "none")) },
			"DecideRequest": func(s presence.Ref) error { return errorOf(tracker.DecideRequest(ctx, by, s, "none", true)) },
			"WatchSubject":  func(s presence.Ref) error { return watch(s, presence.AudienceAdmin) },
			"as itself":     func(s presence.Ref) error { return watch(s, presence.AudienceSelf) },
			"Notify": func(s presence.Ref) error {
				return tracker.Notify(ctx, presence.Notification{Subject: s, Kind: "push"})
			},
			"Gate":         func(s presence.Ref) error { return errorOf(tracker.Gate(ctx, presence.Notification{Subject: s})) },
			"GetAs":        func(s presence.Ref) error { return errorOf(tracker.GetAs(ctx, "cats", s)) },
			"ExplainAs":    func(s presence.Ref) error { return errorOf(tracker.ExplainAs(ctx, "cats", s)) },
			"MayReveal":    func(s presence.Ref) error { return errorOf(tracker.MayReveal(ctx, "cats", s)) },
			"RemoveMember": func(s presence.Ref) error { return tracker.RemoveMember(ctx, presence.ChannelID(tooLong), s) },
			"AddMember":    func(s presence.Ref) error { return tracker.AddMember(ctx, presence.Channel(acme), s) },
		} {
			require.Equal(t, nameless(t, call(left), left), nameless(t, call(hidden), hidden), "%s: %s", by, name)
		}
	}
	by := presence.Visitor(eve)
	lines, err := tracker.Explain(ctx, by, hidden)
	require.NoError(t, err)
	want, err := tracker.Explain(ctx, by, left)
	require.NoError(t, err)
	require.Equal(t, want, lines)
	view, err := tracker.Get(ctx, by, hidden)
	require.NoError(t, err)
	wanted, err := tracker.Get(ctx, by, left)
	require.NoError(t, err)
	wanted.Subject = hidden
	require.Equal(t, wanted, view)
}

// nameless returns a refusal without some names, such as the one that was asked for.
func nameless(t *testing.T, err error, names ...presence.Ref) presence.Error {
	t.Helper()
	refusal, ok := errors.AsType[*presence.Error](err)
	require.True(t, ok, "%v", err)
	e := *refusal
	for _, name := range names {
		e.Given, e.Text = strings.ReplaceAll(e.Given, name.ID, "X"), strings.ReplaceAll(e.Text, name.ID, "X")
	}
	return e
}

// Instants count from 1608 to 2192. Beyond them they stay at the first or last.
func TestInstantsStayInTheirRange(t *testing.T) {
	t.Parallel()
	const first, last = presence.Instant(math.MinInt64), presence.Instant(math.MaxInt64)
	require.Zero(t, presence.At(time.Time{}))
	require.True(t, presence.Instant(0).Time().IsZero())
	require.Equal(t, last, presence.At(time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)))
	require.Equal(t, first, presence.At(time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC)))
	const limit = math.MaxInt64 / 1_000_000_000 // seconds on either side of 1900
	from := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	for sec, want := range map[int64]presence.Instant{
		limit: last, limit - 1: (limit-1)*1e9 + 7, 1: 1e9 + 7, 0: 7, -1: -1e9 + 7, 1 - limit: (1-limit)*1e9 + 7, -limit: first,
	} {
		require.Equal(t, want, presence.At(time.Unix(from+sec, 7)), sec)
		if sec != limit && sec != -limit {
			require.True(t, want.Time().Equal(time.Unix(from+sec, 7)), sec)
		}
	}
	for _, i := range []presence.Instant{0, 1, -1, first, last} {
		require.Equal(t, i, i.Add(0))
		require.Zero(t, i.Sub(i))
	}
	require.Equal(t, first+1, first.Add(1))
	require.Equal(t, last, last.Add(1))
	require.Equal(t, last-1, last.Add(-1))
	require.Equal(t, first, first.Add(-1))
	require.Equal(t, time.Duration(math.MaxInt64), last.Sub(first))
	require.Equal(t, time.Duration(math.MinInt64), first.Sub(last))
	require.Equal(t, time.Hour, start.Add(time.Hour).Sub(start))
	var i presence.Instant
	require.ErrorIs(t, i.UnmarshalText([]byte("noon")), presence.ErrInvalid)
	i = 5
	require.NoError(t, i.UnmarshalText(nil))
	require.Zero(t, i)
	require.Empty(t, i.String())
	require.NoError(t, i.UnmarshalText([]byte(start.String())))
	require.Equal(t, start, i)
}

// An id has 1 to MaxID bytes of UTF-8 without control characters.
func TestIDsHaveLimits(t *testing.T) {
	t.Parallel()
	x := newSubject(t, presence.DefaultPolicy())
	for id, fault := range map[string]string{
		"":                                    "the id is empty",
		" ":                                   "",
		"~":                                   "",
		"a b/c":                               "",
		"ann\u00e9":                           "",
		"\u65e5\u672c":                        "",
		strings.Repeat("x", presence.MaxID):   "",
		strings.Repeat("x", presence.MaxID+1): "the id has 129 bytes, at most 128 are allowed",
		strings.Repeat("\u00e9", presence.MaxID/2+1): "the id has 130 bytes, at most 128 are allowed",
		"a\xff":    "the id is not UTF-8",
		"a\x1f":    "the id has a control character",
		"a\x7f":    "the id has a control character",
		"a\n":      "the id has a control character",
		"a\u0085b": "the id has a control character",
	} {
		_, err := x.try(1, presence.Event{Kind: presence.EventConnect, Conn: id, Age: presence.NoAge})
		if fault == "" {
			require.NoError(t, err, "%q", id)
			continue
		}
		require.ErrorIs(t, err, presence.ErrInvalid, "%q", id)
		refusal, ok := errors.AsType[*presence.Error](err)
		require.True(t, ok)
		require.Equal(t, "connection", refusal.What)
		require.Equal(t, fault, refusal.Text, "%q", id)
	}
}

// A refusal repeats at most 128 bytes of what was given, and no part of a character.
func TestRefusalsRepeatOnlyTheBeginning(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		strings.Repeat("x", 128):            strings.Repeat("x", 128),
		strings.Repeat("x", 129):            strings.Repeat("x", 128),
		strings.Repeat("x", 127) + "\u00e9": strings.Repeat("x", 127),
	} {
		err := errorOf(presence.Record{Subject: presence.ID(given)}.State(0, 0))
		refusal, ok := errors.AsType[*presence.Error](err)
		require.True(t, ok)
		require.Equal(t, want, refusal.Given)
	}
}

// An error text has what is known of the refusal, and nothing else.
func TestErrorsPrint(t *testing.T) {
	t.Parallel()
	at := presence.At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	for want, e := range map[string]*presence.Error{
		"presence: unknown status": {Err: presence.ErrUnknown, What: "status"},
		`presence: unknown status "lunhc": it is not in the policy; allowed: away, busy`: {
			Err: presence.ErrUnknown, What: "status", Given: "lunhc", Text: "it is not in the policy", Allowed: []string{"away", "busy"}},
		"presence: limit claim; try again at 2026-01-05T09:00:00Z: why": {Err: presence.ErrLimit, What: "claim", Until: at, Cause: errors.New("why")},
	} {
		require.EqualError(t, e, want)
	}
}
