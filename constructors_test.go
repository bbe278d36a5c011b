package presence_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/adapters/sse"
	"github.com/presence-go/presence/adapters/wire"
	"github.com/presence-go/presence/adapters/xmpp"
	"github.com/presence-go/presence/routing"
	"github.com/presence-go/presence/schedule"
)

// faultyCalls call each constructor of the root module with several faults, by
// the package and the name, with the options that its error must name.
var faultyCalls = map[string]struct {
	call  func(*presence.Tracker) error
	names []string // none where no option can be wrong
}{
	"memory.NewStorage": {func(*presence.Tracker) error {
		_, err := memory.NewStorage(&memory.StorageOptions{JournalRows: -1, JournalTotal: -1})
		return err
	}, nil},
	"memory.NewTransport": {func(*presence.Tracker) error {
		_, err := memory.NewTransport(&memory.TransportOptions{Bound: -1})
		return err
	}, []string{"Bound"}},
	"memory.NewNotifier": {func(*presence.Tracker) error {
		_, err := memory.NewNotifier(&memory.NotifierOptions{Bound: -1})
		return err
	}, []string{"Bound"}},
	"presence.New": {func(*presence.Tracker) error {
		_, err := presence.New(&presence.Options{
			Policy: &presence.Policy{}, WatchBuffer: -1, NotifyWorkers: -1, MaxSubjects: -1, MaxChannels: -1, MaxWatches: -1, StorageTimeout: -1, Node: "\x00",
		})
		return err
	}, []string{"WatchBuffer", "NotifyWorkers", "MaxSubjects", "MaxChannels", "MaxWatches", "StorageTimeout", "Node", "policy"}},
	"routing.New": {func(*presence.Tracker) error {
		_, err := routing.New(nil, &routing.Options{MaxWork: -1, MaxDone: -1})
		return err
	}, []string{"desk", "MaxWork", "MaxDone"}},
	"schedule.New": {func(*presence.Tracker) error {
		_, err := schedule.New(schedule.Plan{Exceptions: make([]schedule.Exception, 1)}, &schedule.Options{Location: time.FixedZone("far", 200_000)})
		return err
	}, []string{"far", "exception"}},
	"sse.NewHandler": {func(t *presence.Tracker) error {
		_, err := sse.NewHandler(t, &wire.Options{MaxMessage: 1, Burst: -1, AllowedOrigins: []string{"example.com"}})
		return err
	}, []string{"Authenticate", "MaxMessage", "Burst", "AllowedOrigins"}},
	"wire.New": {func(*presence.Tracker) error {
		_, err := wire.New(nil, &wire.Options{
			MaxMessage: 1, MessagesPerSecond: -1, Burst: -1, MaxChannels: -1, MaxSessions: -1, MaxSessionsPerSubject: -1, WriteTimeout: -1, HelloTimeout: -1,
			AllowedOrigins: []string{"example.com"},
		})
		return err
	}, []string{
		"tracker", "Authenticate", "MaxMessage", "MessagesPerSecond", "Burst", "MaxChannels", "MaxSessions", "MaxSessionsPerSubject", "WriteTimeout",
		"HelloTimeout", "AllowedOrigins",
	}},
	"xmpp.New": {func(*presence.Tracker) error {
		_, err := xmpp.New(nil, &xmpp.Options{MaxSubscriptions: -1, MaxPerObserver: -1, MaxStanza: 1, WriteTimeout: -1})
		return err
	}, []string{"tracker", "Domain", "Secret", "Observer", "Address", "MaxSubscriptions", "MaxPerObserver", "MaxStanza", "WriteTimeout"}},
}

// H16: each constructor of the root module names all faults of its arguments.
func TestConstructorsNameAllFaults(t *testing.T) {
	t.Parallel()
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	for name, c := range faultyCalls {
		t.Run(name, func(t *testing.T) {
			err := c.call(tracker)
			if len(c.names) == 0 {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, presence.ErrInvalid)
			for _, option := range c.names {
				require.ErrorContains(t, err, option)
			}
		})
	}
	for _, name := range constructors(t) {
		require.Contains(t, faultyCalls, name, "it is a constructor")
	}
}

// The zero options and nil mean the same.
func TestConstructorsTakeNil(t *testing.T) {
	t.Parallel()
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	for _, opts := range []*routing.Options{nil, {}} {
		_, err := routing.New(tracker, opts)
		require.NoError(t, err)
	}
	for _, opts := range []*schedule.Options{nil, {}} {
		_, err := schedule.New(schedule.Plan{}, opts)
		require.NoError(t, err)
	}
	authenticate := func(*http.Request) (presence.Identity, error) { return presence.Identity{}, presence.ErrNotAllowed }
	_, err = wire.New(tracker, &wire.Options{Authenticate: authenticate})
	require.NoError(t, err)
	_, err = wire.New(tracker, nil)
	require.ErrorContains(t, err, "Authenticate")
}

// constructors lists the exported functions of the root module that begin with
// New or Open and can fail, by package.
func constructors(t *testing.T) (names []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, inner := os.Stat(filepath.Join(path, "go.mod"))
			if path != "." && (inner == nil || strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"internal", "testdata"}, d.Name())) {
				return filepath.SkipDir // another module, or not exported
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "New") && !strings.HasPrefix(f.Name.Name, "Open") || f.Type.Results == nil {
				continue
			}
			results := f.Type.Results.List
			if last, ok := results[len(results)-1].Type.(*ast.Ident); ok && last.Name == "error" {
				names = append(names, file.Name.Name+"."+f.Name.Name)
			}
		}
		return nil
	}))
	require.NotEmpty(t, names)
	return names
}
