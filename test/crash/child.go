package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/presence-go/presence"
)

const (
	workers   = 4
	perWorker = 4 // subjects
	idleAfter = 25 * time.Millisecond
)

// childVariable is set in the environment of a process that will be killed.
const childVariable = "PRESENCE_CRASH_CHILD"

// assignment is the task of such a process.
type assignment struct {
	Store   string `json:"store"`
	Address string `json:"address"`
	Relaxed bool   `json:"relaxed"`
	Life    int    `json:"life"` // number of lives before
	Seed    uint64 `json:"seed"`
}

func subjectName(i int) presence.Ref { return presence.ID("s" + strconv.Itoa(i)) }

// story is the child's end of the pipe. Each line is one write, so that every
// line before the kill arrives whole and in order.
type story struct {
	mu  sync.Mutex
	out *os.File
}

func (s *story) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format+"\n", args...)
}

// live runs the child until it is killed. It reports, a line each:
//
//	ready                 storage is open
//	row SUBJECT ID        the journal has a new row, which may be stored from now on
//	try SUBJECT CLAIM     a change starts after which the subject has this claim, "-" for none
//	done SUBJECT CLAIM    the call returned without an error: the change is promised
//	failed SUBJECT CLAIM  the call returned an error: whether the change is stored is not known
//	settled SUBJECT       a call returned: the tracker has its rows
//	writing               a flush starts
//	written               it returned without an error: all rows settled before its start are promised
func live(a assignment) error {
	ctx := context.Background()
	tell := (&story{out: os.Stdout}).tell
	storage, err := openStore(ctx, a.Store, a.Address, a.Relaxed)
	for err != nil { // the server was killed just now; the parent finds any other cause
		time.Sleep(10 * time.Millisecond)
		storage, err = openStore(ctx, a.Store, a.Address, a.Relaxed)
	}
	policy := presence.DefaultPolicy()
	policy.Idle = []presence.IdleStage{{After: idleAfter, To: "away", On: []string{"available", "busy"}}}
	tracker, err := presence.New(&presence.Options{Storage: storage, Policy: &policy})
	if err != nil {
		return err
	}
	tracker.Observe(func(ref presence.Ref, o *presence.Output) {
		if row, ok := o.Row(); ok {
			tell("row %s %s", ref.ID, row.ID)
		}
	})
	tell("ready")
	go func() { _ = tracker.Run(ctx) }()
	for w := range workers {
		go func() {
			random := rand.New(rand.NewPCG(a.Seed, uint64(w)))
			conns := make([]*presence.Conn, perWorker)
			for n := 0; ; n++ {
				i := random.IntN(perWorker)
				ref := subjectName(w*perWorker + i)
				if conns[i] == nil {
					conn, err := tracker.Connect(ctx, ref, presence.ConnectOptions{ID: "tab"})
					if err == nil {
						conns[i] = conn
						tell("settled %s", ref.ID)
					}
					continue
				}
				act(ctx, tracker, conns[i], random, fmt.Sprintf("c%d-%d-%d", a.Life, w, n), tell, func() { conns[i] = nil })
			}
		}()
	}
	for {
		tell("writing")
		if _, err := tracker.Sweep(ctx); err == nil {
			tell("written")
		}
		time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
	}
}

// act makes one change as a person would, and reports it.
func act(ctx context.Context, tracker *presence.Tracker, conn *presence.Conn, random *rand.Rand, id string, tell func(string, ...any), gone func()) {
	ref := conn.Subject()
	change := func(claim string, do func() error) {
		tell("try %s %s", ref.ID, claim)
		if err := do(); err != nil {
			tell("failed %s %s", ref.ID, claim)
			return
		}
		tell("done %s %s", ref.ID, claim)
	}
	switch random.IntN(10) {
	case 0:
		change("-", func() error {
			_, err := tracker.EndClaim(ctx, presence.Agent(ref), ref, presence.Claim{})
			return err
		})
	case 1:
		_ = conn.Logout()
		gone()
	case 2, 3:
		_ = conn.Input()
	default:
		change(id, func() error {
			status := []string{"busy", "away"}[random.IntN(2)]
			_, err := tracker.SetClaim(ctx, presence.Agent(ref), ref, presence.Claim{ID: id, Status: status, Text: "of " + id})
			return err
		})
	}
	tell("settled %s", ref.ID)
}

// liveIfChild runs a child and does not return, in a process that will be
// killed.
func liveIfChild() {
	text := os.Getenv(childVariable)
	if text == "" {
		return
	}
	var a assignment
	err := json.Unmarshal([]byte(text), &a)
	if err == nil {
		err = live(a)
	}
	fmt.Fprintln(os.Stderr, errors.Join(errors.New("crash: the process to be killed ended by itself"), err))
	os.Exit(1)
}
