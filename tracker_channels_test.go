package presence_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

func TestSetMembers(t *testing.T) {
	ctx := t.Context()
	tracker := newTracker(t, &presence.Options{Clock: clock.NewMock()})
	boss := presence.Supervisor(presence.ID("kim"))
	watch, err := tracker.Watch(ctx, boss, sales, presence.WatchOptions{})
	require.NoError(t, err)
	defer watch.Close()
	_, err = watch.Poll()
	require.NoError(t, err)
	ids := func(names ...string) (refs []presence.Ref) {
		for _, name := range names {
			refs = append(refs, presence.ID(name))
		}
		return refs
	}
	changed := func() (list []string) {
		_, frames := read(t, watch)
		for _, f := range frames {
			for _, c := range f.Changes {
				row := "in"
				if c.View == nil {
					row = "out"
				}
				list = append(list, c.Subject.ID+" "+row)
			}
		}
		return list
	}
	for _, step := range []struct{ set, changes []string }{
		{[]string{"dan", "bob", "cyd", "bob"}, []string{"bob in", "cyd in", "dan in"}},
		{[]string{"dan", "bob", "cyd"}, nil},
		{[]string{"eve", "cyd", "ann"}, []string{"ann in", "bob out", "dan out", "eve in"}},
		{nil, []string{"ann out", "cyd out", "eve out"}},
	} {
		require.NoError(t, tracker.SetMembers(ctx, sales, ids(step.set...)...))
		members, err := tracker.Members(sales)
		require.NoError(t, err)
		require.ElementsMatch(t, slices.Compact(slices.Sorted(slices.Values(step.set))), names(members))
		require.Equal(t, step.changes, changed(), "%v", step.set)
	}
	// One who is in too many channels already keeps everybody as they were.
	require.NoError(t, tracker.SetMembers(ctx, sales, ids("ann", "bob")...))
	for i := range presence.MaxChannels {
		require.NoError(t, tracker.AddMember(ctx, presence.ChannelID(fmt.Sprint("c", i)), presence.ID("eve")))
	}
	require.ErrorIs(t, tracker.SetMembers(ctx, sales, ids("cyd", "dan", "eve")...), presence.ErrLimit)
	require.ErrorIs(t, tracker.SetMembers(ctx, sales, presence.ID("cyd"), presence.Ref{Tenant: "acme", ID: "dan"}), presence.ErrNotAllowed)
	require.ErrorIs(t, tracker.SetMembers(ctx, sales, presence.ID("cyd"), presence.Ref{}), presence.ErrInvalid)
	members, err := tracker.Members(sales)
	require.NoError(t, err)
	require.Equal(t, []string{"ann", "bob"}, names(members))
}

func names(refs []presence.Ref) (list []string) {
	for _, ref := range refs {
		list = append(list, ref.ID)
	}
	return list
}

func TestRevokedWatcherIsEvictedInTheSameStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		for _, ref := range []presence.Ref{ann, bob} {
			require.NoError(t, d.AddMember(t.Context(), sales, ref))
			d.login(ref, "tab")
		}
		own, others := d.watch(presence.Agent(ann), sales), d.watch(presence.Agent(bob), sales)
		require.NotEmpty(t, seen(t, own))
		require.NotEmpty(t, seen(t, others))

		require.NoError(t, d.RemoveMember(t.Context(), sales, ann))
		require.Equal(t, []string{"removed", "ended"}, seen(t, own))
		require.Equal(t, []string{"left ann"}, seen(t, others))
		_, err := own.Next(t.Context())
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		require.Equal(t, "available", d.status(ann), "her presence elsewhere is unaffected")

		_, err = d.Watch(t.Context(), presence.Agent(ann), sales, presence.WatchOptions{})
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		require.ErrorIs(t, d.Join(t.Context(), presence.Agent(ann), sales), presence.ErrNotAllowed)
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		require.NoError(t, d.Join(t.Context(), presence.Agent(ann), sales))
		require.Equal(t, []string{"joined ann available"}, seen(t, others))
	})
}

func TestLinkingAgainMovesTheMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		widget, inboxA, inboxB := presence.ChannelID("widget"), presence.ChannelID("inbox-a"), presence.ChannelID("inbox-b")
		require.NoError(t, d.AddMember(t.Context(), inboxA, ann))
		require.NoError(t, d.AddMember(t.Context(), inboxB, bob))
		d.login(ann, "tab")
		d.login(bob, "tab")
		require.NoError(t, d.Link(t.Context(), widget, inboxA))
		w := d.watch(visitor, widget)
		require.Equal(t, []string{"snapshot ann=available"}, seen(t, w))
		require.NoError(t, d.Link(t.Context(), widget, inboxB))
		require.Equal(t, []string{"left ann", "joined bob available"}, seen(t, w))
	})
}

// A link that would put a subject into too many channels is refused.
func TestLinksAreBounded(t *testing.T) {
	t.Parallel()
	tracker := newTracker(t, nil)
	crew, more := presence.ChannelID("crew"), presence.ChannelID("more")
	require.NoError(t, tracker.AddMember(t.Context(), crew, ann))
	for i := range presence.MaxChannels - 1 {
		require.NoError(t, tracker.Link(t.Context(), presence.ChannelID(fmt.Sprint("inbox", i)), crew))
	}
	require.ErrorIs(t, tracker.Link(t.Context(), more, crew), presence.ErrLimit)
	members, err := tracker.Members(more)
	require.NoError(t, err)
	require.Empty(t, members)
	require.NoError(t, tracker.Link(t.Context(), presence.ChannelID("inbox0"), presence.ChannelID("other")))
	require.NoError(t, tracker.Link(t.Context(), more, crew))
	require.NoError(t, tracker.Link(t.Context(), more, crew), "it is linked so already")
}

// An unknown subject is refused like a known one without a grant.
func TestStrangersAreRefused(t *testing.T) {
	for range 8 { // for each place of a name in memory
		tracker := newTracker(t, nil)
		require.NoError(t, tracker.AddMember(t.Context(), sales, ann))
		_, err := tracker.Watch(t.Context(), presence.Agent(presence.ID("stranger")), sales, presence.WatchOptions{})
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		require.ErrorIs(t, tracker.Join(t.Context(), presence.Agent(presence.ID("stranger")), sales), presence.ErrNotAllowed)
	}
}

// A request that is turned down is reported to its subject, and to no other.
func TestRejectedRequestsAreReported(t *testing.T) {
	t.Parallel()
	policy := presence.DefaultPolicy()
	require.NoError(t, policy.Set("statuses.away.needsApproval", "true"))
	d := newTracker(t, &presence.Options{Policy: &policy})
	d.login(ann, "tab")
	require.NoError(t, d.AddMember(t.Context(), sales, ann))
	own, err := d.Watch(t.Context(), presence.Agent(ann), sales, presence.WatchOptions{Audience: presence.AudienceSelf})
	require.NoError(t, err)
	others := d.watch(boss, sales)
	for _, w := range []*presence.Watch{own, others} {
		read(t, w)
	}
	_, err = d.Request(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "away"})
	require.NoError(t, err)
	id := d.state(ann).Work.Requests[0].ID
	_, err = d.DecideRequest(t.Context(), boss, ann, id, false)
	require.NoError(t, err)
	rejected := func(w *presence.Watch) (list []presence.Change) {
		_, frames := read(t, w)
		for _, f := range frames {
			for _, c := range f.Changes {
				if c.Op == presence.OpRejected {
					list = append(list, c)
				}
			}
		}
		return list
	}
	require.Equal(t, []presence.Change{{Op: presence.OpRejected, Subject: ann, ID: id, Status: "away"}}, rejected(own))
	require.Empty(t, rejected(others))
}

// Fault 14: observers get one output for each channel that a subject has become a
// member of or is no member of any more, in order with the other outputs of the
// subject. Belongs agrees with these outputs.
func TestObserversAreToldOfMembership(t *testing.T) {
	ctx := t.Context()
	tracker := newTracker(t, &presence.Options{Clock: clock.NewMock()})
	inbox, desk := presence.ChannelID("inbox"), presence.ChannelID("desk")
	channels := []presence.Channel{sales, inbox, desk}
	var told []string
	in := make(map[presence.Ref]map[presence.Channel]bool)
	tracker.Observe(func(ref presence.Ref, o *presence.Output) {
		switch o.Kind {
		case presence.OutputGranted, presence.OutputRevoked:
			granted := o.Kind == presence.OutputGranted
			if in[ref] == nil {
				in[ref] = make(map[presence.Channel]bool)
			}
			if in[ref][o.Channel] == granted {
				t.Errorf("%s is told twice of %s in %s", o.Kind, ref, o.Channel)
			}
			in[ref][o.Channel] = granted
		case presence.OutputErased:
			delete(in, ref)
		case presence.OutputTransition:
		default:
			return
		}
		told = append(told, fmt.Sprint(ref, " ", o.Kind, " ", o.Channel))
	})
	expect := func(want ...string) {
		t.Helper()
		slices.SortStableFunc(told, func(a, b string) int { return strings.Compare(a[:3], b[:3]) }) // subjects have no order among them
		require.Equal(t, want, told)
		told = nil
		for _, ref := range []presence.Ref{ann, bob} {
			for _, channel := range channels {
				belongs, err := tracker.Belongs(ctx, ref, channel)
				require.NoError(t, err)
				require.Equal(t, in[ref][channel], belongs, "%s in %s", ref, channel)
			}
		}
	}
	require.NoError(t, tracker.AddMember(ctx, sales, ann))
	expect("ann transition ", "ann granted sales")
	require.NoError(t, tracker.AddMember(ctx, sales, ann))
	expect()
	require.NoError(t, tracker.AddMember(ctx, inbox, bob))
	require.NoError(t, tracker.Link(ctx, sales, inbox))
	expect("bob transition ", "bob granted inbox", "bob granted sales")
	require.NoError(t, tracker.Link(ctx, desk, inbox))
	require.NoError(t, tracker.AddMember(ctx, inbox, ann))
	expect("ann granted desk", "ann granted inbox", "bob granted desk")
	require.NoError(t, tracker.RemoveMember(ctx, sales, ann))
	expect() // she still belongs to it by the inbox
	require.NoError(t, tracker.Link(ctx, sales, desk))
	require.NoError(t, tracker.SetMembers(ctx, inbox, bob))
	expect("ann revoked sales", "ann revoked desk", "ann revoked inbox", "bob revoked sales")
	require.NoError(t, tracker.AddMember(ctx, desk, bob))
	require.NoError(t, tracker.RemoveMember(ctx, inbox, bob))
	require.NoError(t, tracker.RemoveMember(ctx, inbox, bob))
	expect("bob granted sales", "bob revoked inbox")
	require.NoError(t, tracker.Erase(ctx, bob))
	expect("bob erased ")
	_, err := tracker.Belongs(ctx, presence.Ref{Tenant: "acme", ID: "ann"}, sales)
	require.ErrorIs(t, err, presence.ErrNotAllowed)
	_, err = tracker.Belongs(ctx, ann, presence.Channel{})
	require.ErrorIs(t, err, presence.ErrInvalid)
}
