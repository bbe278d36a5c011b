package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	rtmetrics "runtime/metrics"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/naive"
	"github.com/presence-go/presence/internal/timeline"
)

// The million is an hour of virtual time of a million users, in ticks of 100
// ms. The hour runs as fast as the machine can, and then some time runs at the
// speed of the real clock.
const (
	millionTick = 100 * time.Millisecond
	beatTicks   = int(25 * time.Second / millionTick) // between two heartbeats of one user
	comingTicks = int(5 * time.Minute / millionTick)  // in which all users log in, before the hour
	watchedRoom = 10                                  // one room in this number is watched
	watchersOf  = 2                                   // watchers of a watched room
	lookTimes   = 24                                  // how often each witness is compared, besides at the end
)

const millionID = "million"

// phase is a part of a run.
type phase int

const (
	coming  phase = iota // all users log in
	passing              // the hour, as fast as possible
	pacing               // at the speed of the real clock
	phases
)

// millionSize is how large a run is.
type millionSize struct {
	users, witnesses int
	hour             int           // ticks of the hour
	paced            time.Duration // time at the speed of the real clock
}

func (o options) million() millionSize {
	switch {
	case o.tiny:
		return millionSize{2_000, 40, 6_000, 500 * time.Millisecond}
	case o.quick:
		return millionSize{100_000, 200, 9_000, 5 * time.Second}
	}
	return millionSize{1_000_000, 1_000, int(time.Hour / millionTick), time.Minute}
}

// crowd is a tracker with its users and their next actions.
type crowd struct {
	*presence.Tracker
	size    millionSize
	clock   *timeline.Still
	origin  time.Time
	people  *population
	users   []person
	workers [2]*worker

	witnesses []*witness
	byName    map[string]*witness

	watched  map[string]int32 // the users in watched rooms, by id
	claims   []atomic.Pointer[claimed]
	watchers []*watcher
	watching sync.WaitGroup
	frames   atomic.Int64 // read frames with the change of a claim

	empty   float64       // bytes on the heap before there was a tracker
	longest time.Duration // of a sweep
}

// person is a user.
type person struct {
	conns   [2]*presence.Conn
	witness int32 // 1 is the first, 0 none
	seq     uint32
	mood    mood
	here    bool // sends heartbeats
	active  bool // it gives input
	reports bool // its client reports the age of the last input
	watched bool
}

// mood is the way in which an absent user connects again.
type mood uint8

const (
	loggedOut mood = iota // by a login
	reloading             // with a new page
	resuming              // over a new socket
	cutOff                // over the same connections, unless they have ended
)

// claimed is a claim that is timed until watchers read it.
type claimed struct {
	at     presence.Instant
	status string
	began  time.Time
	phase  phase
	before *claimed // of the same user
}

// watcher is a goroutine that watches a room.
type watcher struct {
	watch *presence.Watch
	took  [phases][]time.Duration // from claims to their frames
	lags  int
	err   error
}

// worker runs half of the users. It has the times at which absent users
// connect.
type worker struct {
	*crowd
	*rand.Rand
	agenda  map[int][]int // users that connect, by tick
	beats   int
	others  int
	changed [phases]int // claims that watchers must read
	err     error
}

// runMillion measures the million. It compares the witnesses with the naive
// model under the policy judging. That is the policy in force, except in a test
// that must find a difference.
func runMillion(r *runner, judging func(*presence.Policy)) error {
	size := r.million()
	s := make(sample)
	c, err := newCrowd(size, r.seed)
	if err != nil {
		return err
	}
	say := func(what string) { fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(r.started).Seconds(), what) }
	say(fmt.Sprintf("%s users log in", count(size.users)))
	if err := c.comeIn(); err != nil {
		return err
	}
	heapHere := heapInUse() - c.empty // the recordings of witnesses are still small
	if err := c.watchRooms(); err != nil {
		return err
	}

	say(fmt.Sprintf("%v of what users do", time.Duration(size.hour)*millionTick))
	before, m, began := readGC(), processCPU(), time.Now()
	if err := c.run(comingTicks, size.hour, passing); err != nil {
		return err
	}
	s["hour-wall"], s["hour-cpu"] = time.Since(began).Seconds(), (processCPU() - m).Seconds()
	s.collections(before, readGC())
	s["sweep-longest"] = ms(c.longest)
	for _, w := range c.workers {
		s["beats"], s["others"] = s["beats"]+float64(w.beats), s["others"]+float64(w.others)
	}

	say(fmt.Sprintf("%v at the speed of the real clock", size.paced))
	m, began = processCPU(), time.Now()
	if err := c.run(comingTicks+size.hour, int(size.paced/millionTick), pacing); err != nil {
		return err
	}
	s["paced-cores"] = 100 * (processCPU() - m).Seconds() / time.Since(began).Seconds()
	for _, w := range c.witnesses {
		if err := w.look(c.Tracker, c.now()); err != nil {
			return err
		}
	}
	c.awaitFrames()

	s["heap-here"] = heapHere / float64(size.users)
	if err := c.leaveNothing(s); err != nil {
		return err
	}
	say(fmt.Sprintf("comparing %s users with the naive model", count(size.witnesses)))
	if err := c.judge(s, judging, r.seed); err != nil {
		return err
	}
	r.results = append(r.results, s.million(fmt.Sprintf("%s users for %v, seed %d", count(size.users), time.Duration(size.hour)*millionTick, r.seed), size.users))
	return nil
}

// million is the result of a run.
func (s sample) million(title string, users int) *result {
	rounds := make(map[string][]float64)
	for metric, v := range s {
		rounds[metric] = []float64{v}
	}
	return &result{ID: millionID, Title: title, Size: users, Columns: millionFacts, Cases: []*series{{Name: "ours", Role: ours, Rounds: rounds}}}
}

// leaveNothing frees the watches, the handles and the tracker in turn, and
// measures the memory of each.
func (c *crowd) leaveNothing(s sample) error {
	n := float64(c.size.users)
	heapAll := heapInUse()
	if err := c.closeWatches(s); err != nil {
		return err
	}
	heapUnwatched := heapInUse()
	for i := range c.users {
		for _, conn := range c.users[i].conns {
			if conn != nil && c.users[i].here {
				s["connections"]++
			}
		}
		c.users[i].conns = [2]*presence.Conn{}
	}
	heapAlone := heapInUse()
	if err := c.Close(); err != nil {
		return err
	}
	c.Tracker = nil
	none := heapInUse()
	s["heap-alone"], s["heap-handles"], s["heap-watches"] = (heapAlone-none)/n, (heapUnwatched-heapAlone)/n, (heapAll-heapUnwatched)/float64(len(c.watched))
	return nil
}

// judge compares the witnesses with the naive model.
func (c *crowd) judge(s sample, judging func(*presence.Policy), seed uint64) error {
	machine, err := presence.Compile(presence.DefaultPolicy())
	if err != nil {
		return err
	}
	policy := machine.Policy() // the whole policy, with its defaults
	if judging != nil {
		judging(&policy)
	}
	total, err := judgeAll(c.witnesses, policy, seed)
	s["witnesses"], s["judged-events"], s["sightings"], s["turns"] = float64(c.size.witnesses), float64(total.events), float64(total.sightings), float64(total.turns)
	return err
}

// millionFacts are the figures of a run, in the order of the report.
var millionFacts = []column{
	{metric: "heap-here", header: "heap a user, everybody connected once, with the handle", unit: "bytes"},
	{metric: "beats", header: "heartbeats"},
	{metric: "others", header: "other calls: input, claims, connections that come and go"},
	{metric: "hour-wall", header: "time of the wall for it all, as fast as it went", unit: "s"},
	{metric: "hour-cpu", header: "of the processors", unit: "s"},
	{metric: "sweep-longest", header: "the longest sweep, beside everything else", unit: "ms"},
	{metric: "gc-count", header: "garbage collections"},
	{metric: "gc-cpu", header: "of the processors, for them", unit: "s"},
	{metric: "gc-p99", header: "their pauses, p99, at most", unit: "us"},
	{metric: "gc-max", header: "the longest, at most", unit: "us"},
	{metric: "hour-p50", header: "from a claim to a watcher's frame meanwhile, p50", unit: "us"},
	{metric: "hour-p99", header: "p99", unit: "us"},
	{metric: "hour-frames", header: "of so many frames"},
	{metric: "paced-cores", header: "then at the speed of the real clock: load of one core", unit: "%"},
	{metric: "paced-p50", header: "from a claim to a watcher's frame so, p50", unit: "us"},
	{metric: "paced-p99", header: "p99", unit: "us"},
	{metric: "paced-max", header: "the longest", unit: "us"},
	{metric: "paced-frames", header: "of so many frames"},
	{metric: "missed", header: "frames that were part of a snapshot instead"},
	{metric: "lags", header: "watchers that lagged behind and were sent a snapshot"},
	{metric: "connections", header: "connections in the end"},
	{metric: "heap-alone", header: "heap a user in the end, without handles and watches", unit: "bytes"},
	{metric: "heap-handles", header: "handles, for each user", unit: "bytes"},
	{metric: "heap-watches", header: "watches, for each member of a watched room", unit: "bytes"},
	{metric: "witnesses", header: "users compared with the naive model, without a difference"},
	{metric: "judged-events", header: "what they did, and was asked about them"},
	{metric: "sightings", header: "how often they were asked about: state, views, explanation"},
	{metric: "turns", header: "their transitions"},
}

// printMillion writes the figures of a million.
func printMillion(to io.Writer, res *result) {
	fmt.Fprintf(to, "\n%s\n", res.Title)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, f := range res.Columns {
		if rounds := res.Cases[0].Rounds[f.metric]; len(rounds) > 0 {
			fmt.Fprintf(w, "  %s\t%s %s\n", f.header, short(median(rounds)), f.unit)
		}
	}
	w.Flush()
}

func newCrowd(size millionSize, seed uint64) (*crowd, error) {
	c := &crowd{
		size: size, origin: time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC),
		people: newPopulation(size.users).copied(), users: make([]person, size.users),
		byName: make(map[string]*witness), watched: make(map[string]int32), claims: make([]atomic.Pointer[claimed], size.users),
	}
	c.clock = timeline.NewStill(c.origin)
	c.setClock(0)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, i := range rnd.Perm(size.users)[:size.witnesses] {
		w := &witness{ref: presence.ID(c.people.ids[i])}
		c.witnesses, c.byName[w.ref.ID] = append(c.witnesses, w), w
		c.users[i].witness = int32(len(c.witnesses))
	}
	for i := range c.users {
		c.users[i].active, c.users[i].reports = rnd.IntN(10) < 7, rnd.IntN(8) == 0
	}
	for k, i := range c.people.order {
		if k/roomSize%watchedRoom == 0 {
			c.users[i].watched = true
			c.watched[c.people.ids[i]] = int32(i)
		}
	}
	for k := range c.workers {
		c.workers[k] = &worker{crowd: c, Rand: rand.New(rand.NewPCG(seed, uint64(2+k))), agenda: make(map[int][]int)}
	}
	c.empty = heapInUse()
	var err error
	c.Tracker, err = presence.New(&presence.Options{Clock: c.clock, JournalRows: -1})
	if err == nil {
		c.Observe(c.observe)
	}
	return c, err
}

// observe records the transitions of witnesses. Those of one subject arrive in
// order.
func (c *crowd) observe(who presence.Ref, out *presence.Output) {
	if out.Kind != presence.OutputTransition {
		return
	}
	if w := c.byName[who.ID]; w != nil {
		w.turns = append(w.turns, naive.Turn{Prev: out.Prev, Status: out.Presence.Status, Since: out.At, Seen: out.Noticed})
	}
}

// setClock moves the clock to a tick. Most ticks begin at a whole millisecond,
// as by the tracker's own clock, and some do not.
func (c *crowd) setClock(tick int) {
	at := c.origin.Add(time.Duration(tick) * millionTick)
	if tick%16 == 15 {
		at = at.Add(123_457 * time.Nanosecond)
	}
	c.clock.Set(at)
}

func (c *crowd) now() presence.Instant { return presence.At(c.clock.Now()) }

// part is the users whose heartbeats are due in a tick, and the first worker's
// part of them.
func (c *crowd) part(tick int) (from, middle, to int) {
	turn := tick % beatTicks
	from, to = len(c.users)*turn/beatTicks, len(c.users)*(turn+1)/beatTicks
	return from, (from + to) / 2, to
}

// comeIn makes each user a member of a room and logs all users in, one after
// the other. After that they only send heartbeats.
func (c *crowd) comeIn() error {
	for _, i := range c.people.order {
		err := c.AddMember(context.Background(), presence.ChannelID(c.people.rooms[i]), c.ref(i))
		if err != nil {
			return err
		}
		c.users[i].note(c, said{kind: presence.EventGrant}, nil)
	}
	for tick := range beatTicks {
		from, middle, to := c.part(tick)
		for i := from; i < to; i++ {
			w := c.workers[0]
			if i >= middle {
				w = c.workers[1]
			}
			at := w.IntN(comingTicks)
			w.agenda[at] = append(w.agenda[at], i)
		}
	}
	return c.ticks(0, comingTicks, coming, func(w *worker, i int) { w.beat(i) })
}

// watchRooms starts the watchers.
func (c *crowd) watchRooms() error {
	for k := 0; k < len(c.people.order); k += roomSize * watchedRoom {
		room := presence.ChannelID(c.people.rooms[c.people.order[k]])
		for range watchersOf {
			watch, err := c.Watch(context.Background(), supervisor, room, presence.WatchOptions{Audience: presence.AudienceTeam})
			if err != nil {
				return err
			}
			w := &watcher{watch: watch}
			c.watchers = append(c.watchers, w)
			c.watching.Go(func() { w.run(c) })
		}
	}
	return nil
}

// run reads frames, and measures the time since the claims that they show.
func (w *watcher) run(c *crowd) {
	counted := make(map[int32]presence.Instant) // the last timed claim of each user
	for {
		f, err := w.watch.Next(context.Background())
		if err != nil {
			if !errors.Is(err, presence.ErrClosed) {
				w.err = err
			}
			return
		}
		read := time.Now()
		if f.Lagged {
			w.lags++
		}
		for i := range f.Changes {
			v := f.Changes[i].View
			if v == nil {
				continue
			}
			user := c.watched[v.Subject.ID]
			claim := c.claims[user].Load()
			for claim != nil && claim.at > v.Since {
				claim = claim.before // the watcher lags by one claim
			}
			if claim == nil || v.Since != claim.at || v.Status != claim.status || counted[user] == claim.at {
				continue
			}
			counted[user] = claim.at
			c.frames.Add(1)
			w.took[claim.phase] = append(w.took[claim.phase], read.Sub(claim.began))
		}
	}
}

// awaitFrames waits until the watchers have read all claims.
func (c *crowd) awaitFrames() {
	want := 0
	for _, w := range c.workers {
		for _, changed := range w.changed {
			want += changed * watchersOf
		}
	}
	for end := time.Now().Add(10 * time.Second); c.frames.Load() < int64(want) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

// closeWatches ends the watchers and sums up their figures.
func (c *crowd) closeWatches(s sample) error {
	var faults []error
	for _, w := range c.watchers {
		faults = append(faults, w.watch.Close())
	}
	c.watching.Wait()
	var took [phases][]time.Duration
	for _, w := range c.watchers {
		faults = append(faults, w.err)
		s["lags"] += float64(w.lags)
		for k := range took {
			took[k] = append(took[k], w.took[k]...)
		}
	}
	for k, phase := range map[phase]string{passing: "hour", pacing: "paced"} {
		slices.Sort(took[k])
		changed := c.workers[0].changed[k] + c.workers[1].changed[k]
		s["missed"] += float64(changed*watchersOf - len(took[k]))
		s[phase+"-frames"] = float64(len(took[k]))
		if len(took[k]) > 0 {
			us := func(d time.Duration) float64 { return float64(d) / 1000 }
			s[phase+"-p50"], s[phase+"-p99"] = us(quantile(took[k], 0.5)), us(quantile(took[k], 0.99))
			s[phase+"-max"] = us(took[k][len(took[k])-1])
		}
	}
	c.watchers = nil
	if s["missed"] != 0 && s["lags"] == 0 {
		faults = append(faults, fmt.Errorf("%.0f more frames with a claim's change should have been read", s["missed"]))
	}
	return errors.Join(faults...)
}

// run runs the users for some ticks.
func (c *crowd) run(from, ticks int, phase phase) error {
	return c.ticks(from, ticks, phase, func(w *worker, i int) { w.live(i, phase) })
}

// ticks runs some ticks. In each, the workers visit the users that are due
// while deadlines are processed. In the hour, some witnesses are then compared.
func (c *crowd) ticks(from, ticks int, phase phase, visit func(*worker, int)) error {
	began := time.Now()
	each := max(1, ticks/lookTimes)
	for tick := from; tick < from+ticks; tick++ {
		if phase == pacing {
			time.Sleep(time.Until(began.Add(time.Duration(tick-from) * millionTick)))
		}
		c.setClock(tick)
		first, middle, last := c.part(tick)
		var busy sync.WaitGroup
		for k, part := range [][2]int{{first, middle}, {middle, last}} {
			busy.Go(func() { c.workers[k].tick(tick, part[0], part[1], visit) })
		}
		sweeping := time.Now()
		_, err := c.Sweep(context.Background())
		c.longest = max(c.longest, time.Since(sweeping))
		busy.Wait()
		if err := errors.Join(err, c.workers[0].err, c.workers[1].err); err != nil {
			return err
		}
		for i := tick % each; i < len(c.witnesses) && phase == passing; i += each {
			if err := c.witnesses[i].look(c.Tracker, c.now()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *worker) tick(tick, from, to int, visit func(*worker, int)) {
	back := w.agenda[tick]
	delete(w.agenda, tick)
	for _, i := range back {
		w.comeBack(i)
	}
	for i := from; i < to; i++ {
		if w.users[i].here {
			visit(w, i)
		}
	}
}

func (c *crowd) ref(i int) presence.Ref { return presence.ID(c.people.ids[i]) }

// note records an event of a user, if the user is a witness.
func (u *person) note(c *crowd, s said, err error) {
	if u.witness > 0 {
		s.at, s.accepted = c.now(), err == nil
		w := c.witnesses[u.witness-1]
		w.past = append(w.past, s)
	}
}

// over records an event over a connection.
func (u *person) over(c *crowd, conn *presence.Conn, s said, err error) {
	s.conn, s.epoch = conn.ID(), conn.Epoch()
	u.note(c, s, err)
}

// fail keeps the first unexpected error.
func (w *worker) fail(i int, what string, err error) {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("%s of %s: %w", what, w.ref(i), err)
	}
}

// beat sends a heartbeat over each connection of a user.
func (w *worker) beat(i int) {
	u := &w.users[i]
	for _, conn := range u.conns {
		if conn == nil {
			continue
		}
		w.beats++
		err := conn.Heartbeat()
		u.over(w.crowd, conn, said{kind: presence.EventHeartbeat}, err)
		w.fail(i, "a heartbeat", err)
	}
}

// connect opens a connection of a user, in one of its two places.
func (w *worker) connect(i, place int, id string, login bool) {
	u := &w.users[i]
	conn, err := w.Connect(context.Background(), w.ref(i), presence.ConnectOptions{ID: id, Login: login})
	s := said{kind: presence.EventConnect, conn: id}
	if login {
		s.kind = presence.EventLogin
	}
	w.others++
	u.note(w.crowd, s, err)
	w.fail(i, "a connection", err)
	u.conns[place] = conn
}

func (w *worker) newID() string { return strconv.FormatUint(w.Uint64()|1<<63, 36) }

// again plans that an absent user connects after a time.
func (w *worker) again(i int, how mood, after time.Duration) {
	w.users[i].here, w.users[i].mood = false, how
	now := int(w.clock.Now().Sub(w.origin) / millionTick)
	at := now + 1 + int(after/millionTick)
	w.agenda[at] = append(w.agenda[at], i)
}

// between is a random time, in whole ticks.
func (w *worker) between(from, to time.Duration) time.Duration {
	return from + time.Duration(w.Int64N(int64(to-from)))
}

// comeBack connects an absent user.
func (w *worker) comeBack(i int) {
	u := &w.users[i]
	u.here = true
	switch u.mood {
	case loggedOut:
		w.connect(i, 0, w.newID(), true)
	case reloading:
		w.connect(i, 0, w.newID(), false)
	case resuming:
		w.connect(i, 0, u.conns[0].ID(), false)
	case cutOff:
		for place, conn := range u.conns {
			if conn == nil {
				continue
			}
			w.beats++
			err := conn.Heartbeat()
			u.over(w.crowd, conn, said{kind: presence.EventHeartbeat}, err)
			if err != nil { // the connection has ended
				w.connect(i, place, conn.ID(), false)
			}
		}
	}
}

// live runs a user whose heartbeat is due. The numbers are of 7,200 visits,
// which are those of 50 hours: in them a user claims 50 times, and so on.
func (w *worker) live(i int, phase phase) {
	u := &w.users[i]
	conn := u.conns[0]
	w.beat(i)
	w.act(i)
	leave := func(conn *presence.Conn, cause presence.Cause) {
		err := conn.Leave(cause)
		u.over(w.crowd, conn, said{kind: presence.EventDisconnect, cause: cause}, err)
		w.fail(i, "a leaving", err)
	}
	n := w.IntN(7_200)
	if n < 286 {
		w.others++
	}
	switch {
	case n < 50:
		w.claim(i, conn, phase)
	case n < 70: // a call
		c := presence.Claim{Source: presence.SourceCall, Status: "busy", For: w.between(30*time.Second, 8*time.Minute)}
		_, err := w.SetClaim(context.Background(), host, w.ref(i), c)
		u.note(w.crowd, said{kind: presence.EventSetClaim, claim: &c}, err)
		w.fail(i, "a call", err)
	case n < 142: // the page is reloaded, sometimes slowly
		leave(conn, presence.CauseClosed)
		after := w.between(300*time.Millisecond, 3*time.Second)
		if w.IntN(10) == 0 {
			after = w.between(4*time.Second, 20*time.Second)
		}
		w.again(i, reloading, after)
	case n < 156: // the network fails without notice
		w.again(i, cutOff, w.between(20*time.Second, 3*time.Minute))
	case n < 166: // the network fails, and the transport notices
		leave(conn, presence.CauseLost)
		w.again(i, resuming, w.between(time.Second, 40*time.Second))
	case n < 180 && u.conns[1] == nil:
		leave(conn, presence.CauseLogout)
		w.again(i, loggedOut, w.between(time.Minute, 30*time.Minute))
	case n < 180: // on all connections
		err := w.Logout(context.Background(), w.ref(i))
		u.note(w.crowd, said{kind: presence.EventLogout}, err)
		w.fail(i, "a logout", err)
		u.conns[1] = nil
		w.again(i, loggedOut, w.between(time.Minute, 30*time.Minute))
	case n < 216 && u.conns[1] == nil: // opens another device
		w.connect(i, 1, w.newID(), false)
	case n < 286 && u.conns[1] != nil: // closes the other device
		conn = u.conns[1]
		leave(conn, presence.CauseClosed)
		u.conns[1] = nil
	}
}

// act makes a user act on the page, or start or stop to act.
func (w *worker) act(i int) {
	u := &w.users[i]
	conn := u.conns[0]
	switch {
	case u.active && w.IntN(40) == 0:
		u.active = false
	case !u.active && w.IntN(24) == 0:
		u.active = true
	}
	if u.active && w.IntN(5) > 0 {
		w.others++
		if u.reports {
			u.seq++
			age := w.between(0, 20*time.Second)
			err := conn.Report(uint64(u.seq), age)
			u.over(w.crowd, conn, said{kind: presence.EventHeartbeat, seq: uint64(u.seq), age: age}, err)
			w.fail(i, "a report", err)
		} else {
			err := conn.Input()
			u.over(w.crowd, conn, said{kind: presence.EventInput}, err)
			w.fail(i, "an input", err)
		}
	}
}

// claim sets a claim of a person.
func (w *worker) claim(i int, conn *presence.Conn, phase phase) {
	u := &w.users[i]
	c := presence.Claim{}
	switch w.IntN(6) {
	case 0, 1:
		c.Status = "busy"
	case 2:
		c.Status, c.For = "busy", w.between(time.Minute, 20*time.Minute)
	case 3:
		c.Status = "away"
	case 4:
		c.Status = "available"
	default:
		_, err := conn.EndClaim(context.Background(), "")
		u.over(w.crowd, conn, said{kind: presence.EventEndClaim, claim: &c}, err)
		w.fail(i, "the end of a claim", err)
		return
	}
	now := w.now()
	timed := u.watched && c.Status == "busy" // other statuses may have started by themselves at this instant
	if timed {
		w.claims[i].Store(&claimed{now, c.Status, time.Now(), phase, w.claims[i].Load()})
	}
	view, err := conn.Claim(context.Background(), c)
	u.over(w.crowd, conn, said{kind: presence.EventSetClaim, claim: &c}, err)
	w.fail(i, "a claim", err)
	if timed && view.Status == c.Status && view.Since == now && view.SetAt == now {
		w.changed[phase]++
	}
}

// heapInUse is the number of heap bytes in use.
func heapInUse() float64 {
	freeMemory()
	freeMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// gcStats is the runtime's figures of garbage collection so far.
type gcStats struct {
	pauses rtmetrics.Float64Histogram
	count  uint64
	cpu    float64 // seconds
}

func readGC() gcStats {
	samples := []rtmetrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}, {Name: "/gc/cycles/total:gc-cycles"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}}
	rtmetrics.Read(samples)
	s := gcStats{pauses: *samples[0].Value.Float64Histogram(), count: samples[1].Value.Uint64(), cpu: samples[2].Value.Float64()}
	s.pauses.Counts = slices.Clone(s.pauses.Counts)
	return s
}

// collections adds the figures of the collections between two readings. The
// runtime counts pauses in classes; the figure is the upper end of a class.
func (s sample) collections(before, after gcStats) {
	s["gc-count"], s["gc-cpu"] = float64(after.count-before.count), after.cpu-before.cpu
	s["gc-p99"], s["gc-max"] = 0, 0 // without a collection
	total := uint64(0)
	for i := range after.pauses.Counts {
		total += after.pauses.Counts[i] - before.pauses.Counts[i]
	}
	seen := uint64(0)
	for i := range after.pauses.Counts {
		n := after.pauses.Counts[i] - before.pauses.Counts[i]
		if n == 0 {
			continue
		}
		bound := after.pauses.Buckets[i+1]
		if math.IsInf(bound, 1) {
			bound = after.pauses.Buckets[i]
		}
		if below := seen; float64(below) < 0.99*float64(total) {
			s["gc-p99"] = bound * 1e6
		}
		seen += n
		s["gc-max"] = bound * 1e6
	}
}
