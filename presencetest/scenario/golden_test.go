package scenario

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
)

const goldenFile = "../../testdata/golden.txt"

// H2: a test compares every byte that leaves the tracker with testdata/golden.txt:
// the frames of each scenario file, its journal rows and records, and the JSON of
// each preset. Rewrite the file with -update, and give the reason in the commit.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("../../testdata/scenarios/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	got := []string{"# Bytes that must not change: written by go test ./presencetest/scenario -run TestGolden -update."}
	for _, name := range preset.Names() {
		p, _ := preset.Lookup(name)
		data, err := p.JSON()
		require.NoError(t, err)
		got = append(got, fmt.Sprintf("policy %s: %d bytes %s", name, len(data), digest(data)))
	}
	for _, name := range files {
		line, err := runGolden(t.Context(), name)
		require.NoError(t, err, name)
		got = append(got, filepath.Base(name)+": "+line)
	}
	if flag.Lookup("update").Value.String() == "true" {
		require.NoError(t, os.WriteFile(goldenFile, []byte(strings.Join(got, "\n")+"\n"), 0o644))
	}
	want, err := os.ReadFile(goldenFile)
	require.NoError(t, err)
	require.Equal(t, strings.Split(strings.TrimSuffix(string(want), "\n"), "\n"), got)
}

// runGolden runs a file through a whole tracker, as Run does. The tracker has
// storage, and watches of every audience on each subject and channel.
func runGolden(ctx context.Context, name string) (string, error) {
	src, err := read(name)
	if err != nil {
		return "", err
	}
	f, err := Parse(name, src)
	if err != nil {
		return "", err
	}
	r := &runner{
		ctx: ctx, file: f, opts: Options{Live: true, Policies: os.DirFS(filepath.Dir(name))}, now: presence.At(f.Start),
		roles: make(map[string]presence.Role), known: make(map[string]bool), watchers: make(map[string]*watcher),
		history: make(map[presence.Ref]*history), result: &Result{Proven: make(map[string][]int)},
	}
	if err := errors.Join(r.prepare(), r.open()); err != nil {
		return "", err
	}
	g := &goldenEngine{live: r.engine.(*live), watched: make(map[string]bool)}
	if err := g.live.tracker.Close(); err != nil {
		return "", err
	}
	if g.storage, err = newRecordingStorage(); err != nil {
		return "", err
	}
	g.live.tracker, err = presence.New(&presence.Options{
		Policy: &r.policy, Clock: g.live.clock, JournalRows: journalRows, Storage: g.storage,
	})
	if err != nil {
		return "", err
	}
	g.live.tracker.Observe(r.observe)
	r.engine = g
	if r.queue, err = routing.New(g.live.tracker, &routing.Options{Open: r.isOpen}); err != nil {
		return "", err
	}
	if err := errors.Join(r.run(), r.finish(), r.engine.close()); err != nil {
		return "", err
	}
	frames := newTally()
	for _, w := range g.watches {
		frames.add([]byte(w.name), w.frames...)
	}
	if frames.items == 0 {
		return "", errors.New("no frame")
	}
	return fmt.Sprintf("frames %s, rows %s, records %s", frames, g.storage.rows.tally(), g.storage.records.tally()), nil
}

// tally counts items and hashes their bytes.
type tally struct {
	items int
	hash  hash.Hash
}

func newTally() *tally { return &tally{hash: sha256.New()} }

// add adds a heading, which is not counted, and items.
func (t *tally) add(heading []byte, items ...[]byte) {
	fmt.Fprintf(t.hash, "%d:%s:%d\n", len(heading), heading, len(items))
	for _, data := range items {
		t.items++
		fmt.Fprintf(t.hash, "%d:%s\n", len(data), data)
	}
}

func (t *tally) String() string { return fmt.Sprintf("%d %x", t.items, t.hash.Sum(nil)[:8]) }

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return fmt.Sprintf("%x", sum[:8])
}

// bySubject has the bytes stored of each subject, in order. Subjects have no
// order among each other.
type bySubject map[presence.Ref][][]byte

func (b bySubject) tally() *tally {
	t := newTally()
	byID := func(x, y presence.Ref) int { return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.ID, y.ID)) }
	for _, subject := range slices.SortedFunc(maps.Keys(b), byID) {
		t.add([]byte(subject.Tenant+"/"+subject.ID), b[subject]...)
	}
	return t
}

// recordingStorage records the arguments of Save and Append.
type recordingStorage struct {
	presence.Storage
	presence.JournalReader
	mu      sync.Mutex
	rows    bySubject
	records bySubject
}

func newRecordingStorage() (*recordingStorage, error) {
	s, err := memory.NewStorage(&memory.StorageOptions{JournalRows: journalRows})
	if err != nil {
		return nil, err
	}
	return &recordingStorage{Storage: s, JournalReader: s, rows: make(bySubject), records: make(bySubject)}, nil
}

func (s *recordingStorage) Save(ctx context.Context, writes ...presence.Write) error {
	if err := s.Storage.Save(ctx, writes...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range writes {
		r := w.Record
		s.records[r.Subject] = append(s.records[r.Subject], fmt.Appendf(nil, "%d>%d %s", w.Expect, r.Revision, r.Data))
	}
	return nil
}

func (s *recordingStorage) Append(ctx context.Context, rows ...presence.JournalRow) error {
	if err := s.Storage.Append(ctx, rows...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range rows {
		data, err := json.Marshal(row)
		if err != nil {
			return err
		}
		s.rows[row.Subject] = append(s.rows[row.Subject], data)
	}
	return nil
}

// goldenEngine is a tracker with watches of every audience on all subjects and
// channels. It reads the watches after each call that may change them.
type goldenEngine struct {
	*live
	storage *recordingStorage
	watches []*goldenWatch
	watched map[string]bool
}

// goldenWatch is a watch with the frames that it delivered.
type goldenWatch struct {
	*presence.Watch
	name   string
	frames [][]byte
}

// look starts watches on new subjects and channels, and reads every watch.
func (g *goldenEngine) look(ctx context.Context, subjects []presence.Ref, channels []presence.Channel) error {
	host := presence.Actor{Subject: presence.ID("golden"), Role: presence.RoleSystem}
	open := func(name string, a presence.Audience, watch func(presence.WatchOptions) (*presence.Watch, error)) error {
		name = string(a) + " of " + name
		if g.watched[name] {
			return nil
		}
		w, err := watch(presence.WatchOptions{Audience: a})
		if errors.Is(err, presence.ErrUnknown) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watching as %s: %w", name, err)
		}
		g.watched[name] = true
		g.watches = append(g.watches, &goldenWatch{Watch: w, name: name})
		return nil
	}
	for _, a := range audiences {
		for _, ref := range subjects {
			err := open("subject "+ref.ID, a, func(opts presence.WatchOptions) (*presence.Watch, error) {
				return g.tracker.WatchSubject(ctx, host, ref, opts)
			})
			if err != nil {
				return err
			}
		}
		for _, ref := range channels {
			err := open("channel "+ref.ID, a, func(opts presence.WatchOptions) (*presence.Watch, error) {
				return g.tracker.Watch(ctx, host, ref, opts)
			})
			if err != nil {
				return err
			}
		}
	}
	for _, w := range g.watches {
		if err := w.read(); err != nil {
			return err
		}
	}
	return nil
}

// read reads the frames that are ready. Frames about several subjects at one
// instant have no fixed order, and each has the group and the number of its
// place. read sorts them by subject and keeps only the last group.
func (w *goldenWatch) read() error {
	var list []*presence.Frame
	for {
		f, err := w.Poll()
		if errors.Is(err, presence.ErrClosed) {
			break
		}
		if err != nil && !errors.Is(err, presence.ErrUnknown) && !errors.Is(err, presence.ErrNotAllowed) {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		if f == nil {
			break
		}
		list = append(list, f)
	}
	if len(list) < 2 || !slices.ContainsFunc(list, func(f *presence.Frame) bool { return about(f) != about(list[0]) }) {
		for _, f := range list {
			data, err := f.JSON()
			if err != nil {
				return err
			}
			w.frames = append(w.frames, bytes.Clone(data))
		}
		return nil
	}
	last := list[len(list)-1]
	slices.SortStableFunc(list, func(a, b *presence.Frame) int { return cmp.Compare(about(a), about(b)) })
	for _, f := range list {
		data, err := json.Marshal(struct {
			Kind    presence.FrameKind
			Channel any
			Members []presence.View
			Changes []presence.Change
			Last    presence.Group
			Seq     uint64
		}{f.Kind, f.Channel, f.Members, f.Changes, last.Group, last.Seq})
		if err != nil {
			return err
		}
		w.frames = append(w.frames, data)
	}
	return nil
}

// about is the subject of the first change in a frame.
func about(f *presence.Frame) string {
	if len(f.Changes) == 0 {
		return ""
	}
	return f.Changes[0].Subject.ID
}

func (g *goldenEngine) sweep(ctx context.Context) (presence.Instant, error) {
	next, err := g.live.sweep(ctx)
	return next, errors.Join(err, g.look(ctx, nil, nil))
}

func (g *goldenEngine) stepWall(ctx context.Context, now presence.Instant, by time.Duration, known []string) error {
	return cmp.Or(g.live.stepWall(ctx, now, by, known), g.look(ctx, nil, nil))
}

func (g *goldenEngine) apply(ctx context.Context, e presence.Event) error {
	err := g.live.apply(ctx, e)
	var subjects []presence.Ref
	if e.Subject != (presence.Ref{}) {
		subjects = append(subjects, e.Subject)
	}
	return cmp.Or(err, g.look(ctx, subjects, nil))
}

func (g *goldenEngine) policy(ctx context.Context, actor presence.Actor, p presence.Policy) error {
	return cmp.Or(g.live.policy(ctx, actor, p), g.look(ctx, nil, nil))
}

func (g *goldenEngine) define(ctx context.Context, actor presence.Actor, s presence.Status) error {
	return cmp.Or(g.live.define(ctx, actor, s), g.look(ctx, nil, nil))
}

func (g *goldenEngine) undefine(ctx context.Context, actor presence.Actor, id, fallback string) error {
	return cmp.Or(g.live.undefine(ctx, actor, id, fallback), g.look(ctx, nil, nil))
}

func (g *goldenEngine) grant(ctx context.Context, channel presence.Channel, subject presence.Ref) error {
	return cmp.Or(g.live.grant(ctx, channel, subject), g.look(ctx, []presence.Ref{subject}, []presence.Channel{channel}))
}

func (g *goldenEngine) revoke(ctx context.Context, channel presence.Channel, subject presence.Ref) error {
	return cmp.Or(g.live.revoke(ctx, channel, subject), g.look(ctx, nil, nil))
}

func (g *goldenEngine) link(ctx context.Context, channel, group presence.Channel) error {
	return cmp.Or(g.live.link(ctx, channel, group), g.look(ctx, nil, []presence.Channel{channel, group}))
}

func (g *goldenEngine) hours(ctx context.Context, channel presence.Channel, h presence.Hours) error {
	return cmp.Or(g.live.hours(ctx, channel, h), g.look(ctx, nil, []presence.Channel{channel}))
}
