// Command crash kills processes that use a durable store, and the store's
// server. It checks that no promised change is lost. See the README.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/presence-go/presence/internal/pgtest"
)

func main() {
	liveIfChild()
	var o options
	flag.StringVar(&o.store, "store", "sqlite", "what to test: sqlite or postgres")
	flag.StringVar(&o.mode, "mode", "kill", "what is lost: kill, nothing that was written to files; drop, all that was not synced; some, half of it")
	flag.BoolVar(&o.relaxed, "relaxed", false, "switch durability off: the run must fail")
	flag.IntVar(&o.rounds, "rounds", 200, "how many times to kill")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of what is left to chance")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	counts, err := crash(ctx, o)
	text, _ := json.Marshal(counts)
	fmt.Printf("%s mode=%s relaxed=%t seed=%d %s\n", o.store, o.mode, o.relaxed, o.seed, text)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	store, mode string
	relaxed     bool
	rounds      int
	seed        uint64
}

// results are the figures of a run.
type results struct {
	counts
	ServerKills, Restarts    int // of those, the rounds that also killed the server, and those that started it again under the child
	Writes, Syncs, Forgotten int // by the trace; 0 without one
	Compared                 int // files that equal the trace
}

// violation is a broken promise.
type violation struct{ error }

func (v violation) Unwrap() error { return v.error }

// rig is the store under test, without the child.
type rig interface {
	// start makes the store usable, and returns its address.
	start(ctx context.Context) (string, error)
	// childTrace is the command that traces the child, or nil.
	childTrace() []string
	// strike kills the server, if the rig has one. It reports whether the child
	// gets time to notice. It may start the server again.
	strike(ctx context.Context, random *rand.Rand, r *results) error
	// finish ends what is left after the child's death, and drops unsynced data.
	finish(ctx context.Context, random *rand.Rand, r *results) error
	io.Closer
}

// crash runs rounds, and returns the error of the first that failed.
func crash(ctx context.Context, o options) (r results, err error) {
	random := rand.New(rand.NewPCG(o.seed, 1))
	var g rig
	switch o.mode {
	case "kill":
	case "drop", "some":
		if _, err := exec.LookPath("strace"); err != nil {
			return r, fmt.Errorf("crash: what is synced is found out with strace; run scripts/postgres, which brings it: %w", err)
		}
	default:
		return r, fmt.Errorf("crash: no mode %q: allowed are kill, drop, some", o.mode)
	}
	switch o.store {
	case "postgres":
		g, err = newServerRig(ctx, o)
	default:
		g, err = newFileRig(o)
	}
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	book := newLedger()
	for round := range o.rounds {
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		err := oneRound(ctx, g, o, round, random, book, &r)
		r.counts = book.counts
		if err != nil {
			return r, fmt.Errorf("crash: round %d of %s, seed %d: %w", round, o.store, o.seed, err)
		}
	}
	return r, nil
}

func oneRound(ctx context.Context, g rig, o options, round int, random *rand.Rand, book *ledger, r *results) error {
	address, err := g.start(ctx)
	if err != nil {
		return violation{fmt.Errorf("it cannot be used any more: %w", err)}
	}
	lived := &life{ready: make(chan struct{}), subjects: make(map[string]*told)}
	text, err := json.Marshal(assignment{Store: o.store, Address: address, Relaxed: o.relaxed, Life: round, Seed: random.Uint64()})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := append(g.childTrace(), self)
	child := exec.Command(command[0], command[1:]...)
	child.Env = append(os.Environ(), childVariable+"="+string(text))
	child.Stderr = os.Stderr
	pipe, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	heard := make(chan error, 1)
	go func() { heard <- lived.listen(pipe) }()

	early := random.IntN(10) == 0 // while it opens storage
	if !early {
		select {
		case <-lived.ready:
		case <-time.After(time.Minute):
		}
	}
	wait(ctx, time.Duration(20+random.IntN(250))*time.Millisecond)
	striking := g.strike(ctx, random, r)
	for killed := false; !killed; {
		if len(command) == 1 {
			_ = child.Process.Kill()
		}
		for _, pid := range pgtest.Children(child.Process.Pid) { // of the tracer, once it has started the child
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case err = <-heard:
			killed = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	_ = child.Wait()
	if err := errors.Join(striking, err, g.finish(ctx, random, r)); err != nil {
		return err
	}
	if address, err = g.start(ctx); err != nil {
		return violation{fmt.Errorf("it cannot be used any more: %w", err)}
	}
	storage, err := openStore(ctx, o.store, address, o.relaxed)
	if err != nil {
		return violation{fmt.Errorf("it cannot be opened any more: %w", err)}
	}
	whole := round%20 == 19 || round == o.rounds-1
	if err := errors.Join(book.check(ctx, storage, lived, whole), storage.Close()); err != nil {
		return violation{err}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// keep is the probability that unsynced data survives in a mode.
func keep(mode string) float64 {
	if mode == "some" {
		return 0.5
	}
	return 0
}

// forget rebuilds a directory as a disk would have it after a power loss.
func forget(o options, trace, base, dir string, random *rand.Rand, r *results) error {
	d, err := replay(trace, base, dir)
	if err != nil {
		return err
	}
	n, err := d.compare()
	if err != nil {
		return err
	}
	if err := d.forget(keep(o.mode), random); err != nil {
		return err
	}
	r.Compared += n
	r.Writes, r.Syncs, r.Forgotten = r.Writes+d.Writes, r.Syncs+d.Syncs, r.Forgotten+d.Forgotten
	return os.Remove(trace)
}

// serverRig is a PostgreSQL server.
type serverRig struct {
	o       options
	server  *pgtest.Server
	work    string
	running bool
}

func newServerRig(ctx context.Context, o options) (*serverRig, error) {
	work, err := os.MkdirTemp("", "crash")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(work, 0o777); err != nil { // the server is another user, and writes its trace there
		return nil, err
	}
	server, err := pgtest.New(ctx)
	if err != nil {
		return nil, err
	}
	g := &serverRig{o: o, server: server, work: work}
	if err := g.prepare(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// database is a database that every server has.
const database = "template1"

// prepare leaves only one database. A killed server syncs all its files at its
// start, which takes long with a trace of each sync.
func (g *serverRig) prepare(ctx context.Context) error {
	if err := g.server.Start(ctx); err != nil {
		return err
	}
	for _, sql := range []string{`UPDATE pg_database SET datistemplate = false`, `DROP DATABASE template0`, `DROP DATABASE postgres`} {
		if _, err := g.server.Exec(ctx, database, sql); err != nil {
			return err
		}
	}
	g.server.Settings = map[string]string{"wal_writer_delay": "10s"} // so that writes without a waiting client stay unwritten for long
	return g.server.Stop()
}

func (g *serverRig) trace() string { return filepath.Join(g.work, "trace") }
func (g *serverRig) base() string  { return filepath.Join(g.work, "base") }

func (g *serverRig) start(ctx context.Context) (string, error) {
	if !g.running {
		if g.o.mode != "kill" {
			if err := os.CopyFS(g.base(), os.DirFS(g.server.Dir)); err != nil {
				return "", err
			}
			g.server.Wrap = tracer(g.trace())
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := g.server.Start(ctx); err != nil {
			return "", err
		}
		g.running = true
	}
	return g.server.URL(database), nil
}

func (g *serverRig) childTrace() []string { return nil }

func (g *serverRig) strike(ctx context.Context, random *rand.Rand, r *results) error {
	if g.o.mode == "kill" && !g.o.relaxed && random.IntN(4) == 0 {
		return nil // kill only the child
	}
	r.ServerKills++
	g.running = false
	if g.o.mode == "kill" && random.IntN(3) == 0 {
		if err := g.server.Crash(); err != nil {
			return err
		}
	} else if err := g.server.Kill(); err != nil {
		return err
	}
	if g.o.mode != "kill" || random.IntN(2) == 0 {
		return nil
	}
	r.Restarts++
	if _, err := g.start(ctx); err != nil {
		return err
	}
	wait(ctx, time.Duration(random.IntN(300))*time.Millisecond)
	return nil
}

func (g *serverRig) finish(ctx context.Context, random *rand.Rand, r *results) error {
	if g.o.mode == "kill" {
		return g.settle(ctx)
	}
	if err := forget(g.o, g.trace(), g.base(), g.server.Dir, random, r); err != nil {
		return err
	}
	return g.server.Restore(g.base())
}

// settle waits until a living server has carried out the child's last requests.
// They may be stored or not, but must not be stored later.
func (g *serverRig) settle(ctx context.Context) error {
	for g.running {
		n, err := g.server.Exec(ctx, database, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'presence'`)
		if err != nil {
			return err
		}
		if n == "0" {
			break
		}
		wait(ctx, 5*time.Millisecond)
	}
	return nil
}

func (g *serverRig) Close() error { return errors.Join(g.server.Close(), os.RemoveAll(g.work)) }

// fileRig is a directory with the file of an embedded database.
type fileRig struct {
	o    options
	work string
}

func newFileRig(o options) (*fileRig, error) {
	work, err := os.MkdirTemp("", "crash")
	if err != nil {
		return nil, err
	}
	g := &fileRig{o: o, work: work}
	return g, os.Mkdir(g.dir(), 0o700)
}

func (g *fileRig) dir() string   { return filepath.Join(g.work, "data") }
func (g *fileRig) trace() string { return filepath.Join(g.work, "trace") }
func (g *fileRig) base() string  { return filepath.Join(g.work, "base") }

func (g *fileRig) start(context.Context) (string, error) {
	return filepath.Join(g.dir(), "presence.db"), nil
}

// childTrace copies the directory first, because the trace has only the later
// changes.
func (g *fileRig) childTrace() []string {
	if g.o.mode == "kill" {
		return nil
	}
	if err := os.CopyFS(g.base(), os.DirFS(g.dir())); err != nil {
		return []string{"false"}
	}
	return tracer(g.trace())
}

func (g *fileRig) strike(context.Context, *rand.Rand, *results) error { return nil }

func (g *fileRig) finish(_ context.Context, random *rand.Rand, r *results) error {
	if g.o.mode == "kill" {
		return nil
	}
	if err := forget(g.o, g.trace(), g.base(), g.dir(), random, r); err != nil {
		return err
	}
	if err := filepath.WalkDir(g.base(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".db-shm" {
			return os.Remove(path)
		}
		return err
	}); err != nil {
		return err
	}
	if err := os.RemoveAll(g.dir()); err != nil {
		return err
	}
	return os.Rename(g.base(), g.dir())
}

func (g *fileRig) Close() error { return os.RemoveAll(g.work) }
