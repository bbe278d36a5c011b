package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence/internal/fleet"
)

// Config is the target and the size of a load.
type Config struct {
	AgentURL, VisitorURL string // with {id} and {token}
	Channel              string
	Agents, Visitors     int
	Names, VisitorNames  string
	For, Ramp            time.Duration
	patience             time.Duration // how long the server may take to open, answer and close
	PID                  int           // of the server, 0 if unknown

	every   [actions]time.Duration // the average time between two actions; 0 for never
	tokens  map[string]string      // by id; "*" for all others
	headers []header
}

type header struct{ name, value string }

// runner runs a load.
type runner struct {
	*Config
	progress io.Writer
	run      string // the name of this run
	began    time.Time
	ended    time.Time // when clients stopped acting

	people   map[string]*person
	frames   *frames
	crowd    []*client
	clients  sync.WaitGroup
	stopped  chan struct{} // closed: clients start no more actions
	finished chan struct{} // closed: clients leave

	statuses atomic.Pointer[[]string]
	visitors atomic.Uint64
	dialer   fleet.Dialer
	refs     atomic.Uint64

	connected                          atomic.Int64
	opened, sent, received, pings      atomic.Uint64
	sentClaims, doneClaims             atomic.Uint64
	snapshots, diffs, resumed, resyncs atomic.Uint64
	connects, answers, changes, late   fleet.Histogram
	refusals, ends                     tally
	faults                             faults
	compared, same                     int
	most                               int64
	samples                            []Sample
	totals                             Sample // over the whole time
	server, self                       fleet.Meter
}

func newRunner(c *Config, progress io.Writer) *runner {
	r := &runner{
		Config: c, progress: progress, run: rand.Text()[:6], people: make(map[string]*person),
		stopped: make(chan struct{}), finished: make(chan struct{}),
	}
	r.server.PID, r.self.PID, r.dialer.Patience = c.PID, os.Getpid(), c.patience
	r.frames = newFrames(r.people)
	var none [actions]time.Duration
	for i := range c.Agents {
		id := numbered(c.Names, i)
		p := r.people[id]
		if p == nil {
			p = &person{id: id}
			r.people[id] = p
		}
		every := c.every
		every[actLeave] = 0
		r.crowd = append(r.crowd, &client{r: r, who: p, id: id, conn: fmt.Sprintf("load-%s-%d", r.run, i+1), every: &every})
	}
	every := none
	every[actLeave] = c.every[actLeave]
	for range c.Visitors {
		r.crowd = append(r.crowd, &client{r: r, id: r.nextVisitor(), every: &every})
	}
	return r
}

// numbered is the name with an index: from a pattern with {n}, or from a list
// of names that take turns.
func numbered(names string, i int) string {
	if strings.Contains(names, "{n}") {
		return strings.ReplaceAll(names, "{n}", strconv.Itoa(i+1))
	}
	list := strings.Split(names, ",")
	return list[i%len(list)]
}

func (r *runner) nextVisitor() string {
	return strings.ReplaceAll(r.VisitorNames, "{n}", r.run+"-"+strconv.FormatUint(r.visitors.Add(1), 10))
}

// patterns is all texts that may contain the id or the token of a client.
func (c *Config) patterns() string {
	list := []string{c.AgentURL, c.VisitorURL}
	for _, h := range c.headers {
		list = append(list, h.value)
	}
	return strings.Join(list, " ")
}

func (r *runner) choices() []string {
	if list := r.statuses.Load(); list != nil {
		return *list
	}
	return nil
}

func (r *runner) offer(statuses []string) { r.statuses.Store(&statuses) }

// pause waits, and reports whether the load continues.
func (r *runner) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !r.isStopped()
	case <-r.stopped:
		return false
	}
}

func (r *runner) isStopped() bool   { return isClosed(r.stopped) }
func (r *runner) isFinishing() bool { return isClosed(r.finished) }

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// execute runs the load until its time is over or ctx is done. Then it checks
// all lists and ends all clients.
func (r *runner) execute(ctx context.Context) *Result {
	r.began = time.Now()
	r.server.Read()
	r.self.Read()
	for _, c := range r.crowd {
		r.clients.Go(c.live)
	}
	watching, stop := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	watcher.Go(func() { r.watch(watching) })

	over := time.NewTimer(r.For)
	interrupted := false
	select {
	case <-over.C:
	case <-ctx.Done():
		interrupted = true
	}
	over.Stop()
	close(r.stopped)
	r.ended = time.Now()
	stop()
	watcher.Wait()
	fmt.Fprintln(r.progress, "comparing the lists of all clients")
	checkers := r.check()
	r.finish(append(checkers, r.crowd...))
	return r.result(interrupted)
}

// try opens a session of an agent and one of a visitor, to check their
// permissions. It leaves other faults of the server for the load to find. The
// runner cannot be used afterwards.
func (r *runner) try(ctx context.Context) error {
	var tried []*client
	for _, c := range r.crowd {
		if len(tried) == 0 || (tried[0].who == nil) != (c.who == nil) {
			tried = append(tried, c)
		}
		if len(tried) == 2 {
			break
		}
	}
	for _, of := range tried {
		c := &client{r: r, who: of.who, id: of.id, conn: of.conn, every: &[actions]time.Duration{}}
		err := c.open(ctx, true)
		// Wait until the client has the list or a refusal.
		for limit := time.Now().Add(r.patience); err == nil && c.list.epoch == "" && len(r.refusals.all()) == 0 && time.Now().Before(limit); {
			err = c.read(limit)
		}
		if err == nil {
			err = c.leave("tried")
		}
		c.gone()
		if refused, ok := errors.AsType[errRefused](err); ok {
			if !refused.answered {
				return fmt.Errorf("%s cannot be reached: %w; start a server, say where it is with -url, or have one started with -serve", r.pattern(c.who != nil), refused)
			}
			return fmt.Errorf("%s is not let in at %s: %w", c.name(), r.pattern(c.who != nil), refused)
		}
		for code := range r.refusals.all() {
			list, _ := r.faults.all()
			return fmt.Errorf("channel %q cannot be watched: %s: %s; name another with -channel, or agents who may with -names", r.Channel, code, list[0].First)
		}
	}
	return nil
}

// finish ends all clients and waits for them.
func (r *runner) finish(all []*client) {
	close(r.finished)
	for i, c := range all {
		c.wake()
		if i%500 == 499 {
			time.Sleep(50 * time.Millisecond) // a thousand in 50 ms, so that they are no storm
		}
	}
	r.clients.Wait()
}

// check compares all lists with fresh ones of the server. It returns the
// clients that requested those.
func (r *runner) check() (checkers []*client) {
	by := make(map[bool]*client)
	for _, c := range r.crowd {
		agent := c.who != nil
		if by[agent] != nil || !c.isThere() {
			continue
		}
		checker := &client{r: r, who: c.who, id: c.id, conn: "load-" + r.run + "-check", every: &[actions]time.Duration{}}
		by[agent] = checker
		checkers = append(checkers, checker)
		r.clients.Go(func() { _, _ = checker.session(false) })
	}
	left := make([]*client, 0, len(r.crowd))
	for _, c := range r.crowd {
		if by[c.who != nil] != nil && c.isThere() {
			left = append(left, c)
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	// Wait until all clients have received all changes.
	for limit := time.Now().Add(r.patience); ; <-tick.C {
		last := time.Now().After(limit)
		waiting := left[:0]
		for _, c := range left {
			if !r.compare(c, by[c.who != nil], last) {
				waiting = append(waiting, c)
			}
		}
		if left = waiting; len(left) == 0 || last {
			return checkers
		}
	}
}

// compare compares the list of a client with a fresh one. It reports whether
// the result is final: a change may be on its way to either.
func (r *runner) compare(c, fresh *client, last bool) (settled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh.mu.Lock()
	defer fresh.mu.Unlock()
	switch {
	case !c.there:
		return true // another fault has counted it
	case fresh.list.epoch == "":
		if last {
			r.faults.add("not compared", "%s: no fresh list came within %v to compare with", c.name(), r.patience)
		}
		return last
	case c.list.epoch == "":
		if last {
			r.faults.add("no list", "%s: no list came", c.name())
		}
		return last
	case c.asking && !last:
		return false
	}
	numbers := c.list.differs(&fresh.list)
	level := c.list.epoch == fresh.list.epoch && c.list.seq == fresh.list.seq
	if len(numbers) > 0 && !level && !last {
		return false
	}
	r.compared++
	if len(numbers) == 0 {
		r.same++
		return true
	}
	names := make([]string, 0, 3)
	for _, n := range numbers[:min(len(numbers), cap(names))] {
		names = append(names, r.frames.name(n))
	}
	r.faults.add("list differs", "%s: after frame %d of epoch %s its list differs from a fresh one, frame %d of %s, in %d rows, among them %s",
		c.name(), c.list.seq, c.list.epoch, fresh.list.seq, fresh.list.epoch, len(numbers), strings.Join(names, ", "))
	return true
}

// watch prints progress once a second. It also takes samples, a few hundred at
// most.
func (r *runner) watch(ctx context.Context) {
	every := min(max(r.For/60, 500*time.Millisecond), time.Second)
	if r.For > 10*time.Minute {
		every = r.For / 600
	}
	tick := time.NewTicker(min(every, time.Second))
	defer tick.Stop()
	sampled, said := r.mark(), r.mark()
	for {
		over := false
		select {
		case <-tick.C:
		case <-ctx.Done():
			over = true
		}
		r.server.Read()
		r.self.Read()
		r.most = max(r.most, r.connected.Load())
		if now := r.mark(); now.at.Sub(sampled.at) > every/2 {
			r.samples = append(r.samples, r.sample(sampled, now))
			sampled = now
		}
		if now := r.mark(); now.at.Sub(said.at) > 900*time.Millisecond || over && now.at.Sub(said.at) > every/2 {
			r.say(r.sample(said, now))
			said = now
		}
		if over {
			r.totals = r.sample(&mark{at: r.began}, r.mark())
			return
		}
	}
}
