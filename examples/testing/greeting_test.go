package greeting_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
	greeting "github.com/presence-go/presence/examples/testing"
)

var (
	ann   = presence.ID("ann")
	sales = presence.ChannelID("sales")
)

const (
	open   = "Hello! Ask us anything."
	slow   = "We are around, but an answer may take a while."
	closed = "We are closed. Leave us a message."
)

// connected returns a tracker with ann in the sales channel, logged in.
func connected(t *testing.T, opts *presence.Options) (*presence.Tracker, *presence.Conn) {
	t.Helper()
	tracker, err := presence.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := tracker.AddMember(t.Context(), sales, ann); err != nil {
		t.Fatal(err)
	}
	conn, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{Login: true})
	if err != nil {
		t.Fatal(err)
	}
	return tracker, conn
}

func expect(t *testing.T, tracker *presence.Tracker, want string) {
	t.Helper()
	got, err := greeting.For(t.Context(), tracker, sales)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("the widget says %q, want %q", got, want)
	}
}

// With a mock clock nothing runs by itself: move the clock, then sweep.
func TestGreetingWithMockClock(t *testing.T) {
	mock := clock.NewMock()
	tracker, conn := connected(t, &presence.Options{Clock: mock})
	defer tracker.Close()
	pass := func(d time.Duration) {
		mock.Add(d)
		if _, err := tracker.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	expect(t, tracker, open)
	for range 12 { // five minutes without input, but with heartbeats
		pass(25 * time.Second)
		if err := conn.Heartbeat(); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, tracker, slow)

	pass(60*time.Second - 1) // silence: the lease ends, then the grace
	pass(15 * time.Second)
	expect(t, tracker, slow)
	pass(1)
	expect(t, tracker, closed)
}

// In a synctest bubble the tracker runs as in production, with the real clock,
// and an hour passes at once.
func TestGreetingInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker, conn := connected(t, nil)
		ran := make(chan error, 1)
		go func() { ran <- tracker.Run(context.Background()) }()

		expect(t, tracker, open)
		if _, err := conn.Claim(t.Context(), presence.Claim{Status: "busy", For: 30 * time.Second}); err != nil {
			t.Fatal(err)
		}
		expect(t, tracker, slow)
		time.Sleep(30 * time.Second)
		expect(t, tracker, open)

		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Second - 1)
		expect(t, tracker, open) // a page reload looks the same
		time.Sleep(time.Nanosecond)
		expect(t, tracker, closed)

		if err := tracker.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ran; err != nil {
			t.Fatal(err)
		}
	})
}
