package presence_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
	"github.com/presence-go/presence/preset"
)

var update = flag.Bool("update", false, "rewrite what docs/ has from the code: state-machine.md, and the marked parts of implementing.md")

// generated compares a file with what it has to be, or rewrites it.
func generated(t *testing.T, name, want string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(want), 0o644))
		return
	}
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, want, string(got), "%s is not what the code says; go test . -run TestDocs -update", name)
}

// What the guide shows of code is the code, and what it says of the suites is
// what they say.
func TestDocsImplementing(t *testing.T) {
	const name = "docs/implementing.md"
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	parts := 0
	text := regexp.MustCompile(`(?s)(<!-- (code|rules) (\S+) -->\n).*?(<!-- end -->)`).ReplaceAllStringFunc(string(data), func(part string) string {
		parts++
		head, _, _ := strings.Cut(part, "\n")
		words := strings.Fields(head)
		body := ""
		switch words[1] {
		case "code":
			body = "```go\n" + afterImports(t, words[2]) + "```\n"
		case "rules":
			body = rulesOf(t, words[2])
		}
		return head + "\n" + body + "<!-- end -->"
	})
	require.Equal(t, 8, parts)
	generated(t, name, text)
}

// afterImports returns a Go file from the end of its imports on.
func afterImports(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	_, body, found := bytes.Cut(data, []byte("\n)\n\n"))
	require.True(t, found, name)
	return string(body)
}

// rulesOf lists the rules of a suite: all of them are broken by what cannot even
// be opened.
func rulesOf(t *testing.T, suite string) string {
	t.Helper()
	fault := errors.New("no such thing")
	var err error
	switch suite {
	case "storage":
		err = presencetest.CheckStorage(t.Context(), func(context.Context) (presence.Storage, error) { return nil, fault })
	case "transport":
		err = presencetest.CheckTransport(t.Context(), func(context.Context) (c presencetest.TransportCase, err error) { return c, fault })
	case "notifier":
		err = presencetest.CheckNotifier(t.Context(), func(context.Context) (c presencetest.NotifierCase, err error) { return c, fault })
	case "authorizer":
		err = presencetest.CheckAuthorizer(t.Context(), func(context.Context) (c presencetest.AuthorizerCase, err error) { return c, fault })
	}
	all, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok, suite)
	var b strings.Builder
	b.WriteString("| Rule | What it demands |\n| --- | --- |\n")
	for _, err := range all.Unwrap() {
		violation, ok := errors.AsType[*presencetest.Violation](err)
		require.True(t, ok, err)
		fmt.Fprintf(&b, "| `%s` | %s |\n", violation.Rule, violation.Text)
	}
	return b.String()
}

// README shows what the example of Explain prints, and the files of the example hello.
func TestDocsReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	example, err := os.ReadFile("example_explain_test.go")
	require.NoError(t, err)
	_, output, found := strings.Cut(string(example), "\t// Output:\n")
	require.True(t, found)
	output = strings.ReplaceAll(strings.TrimSuffix(output, "}\n"), "\t// ", "")
	require.Contains(t, string(readme), "```\n"+output+"```\n")
	for name, language := range map[string]string{"main.go": "go", "page.html": "html"} {
		file, err := os.ReadFile("examples/hello/" + name)
		require.NoError(t, err)
		text := string(file)
		if name == "main.go" {
			_, text, _ = strings.Cut(text, "\npackage main")
			text = "package main" + text
		}
		require.Contains(t, string(readme), "```"+language+"\n"+text+"```\n", name)
	}
}

// Links within the project lead somewhere.
func TestDocsLinks(t *testing.T) {
	files, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	for _, name := range append(files, "README.md") {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(string(data), -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(name), path)
			if path == "" {
				target = name
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s: %s", name, m[1])
			if anchor != "" {
				require.Contains(t, anchors(t, target), anchor, "%s: %s", name, m[1])
			}
		}
	}
}

// anchors lists the anchors of a file's headings.
func anchors(t *testing.T, name string) (list []string) {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(data), -1) {
		text := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		list = append(list, strings.ReplaceAll(text, " ", "-"))
	}
	return list
}

// The diagrams are what the state machine does when it is tried.
func TestDocsStateMachine(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, `# The state machine

A test generated this page by trying %[1]s. It reached each state below, fed each event to it, and noted what followed.
A change of the rules changes this page, and the test fails until you rewrite it:

    go test . -run TestDocs -update

Each section names the policy that was tried. Another policy has other statuses, graces and stages, and the same machine.

## A connection

A connection is live until its client reports that it left, or until it has been silent for the policy's lease. It then
lingers for the grace of its cause, and still counts, so that no watcher sees a reload or a short loss. This was tried with a
grace for every cause. Without a grace for its cause a connection is gone at once, as after a logout under the default policy.

`, "`Machine.Step`")
	writeConnections(t, &b)
	b.WriteString(`
- A **silent** connection is live again after a heartbeat.
- A connection that **left** was reported as ended. A late heartbeat over the old socket is refused with that error. A connect
  under the same id makes the connection live again.
- A disconnect that names an older epoch than the connection's changes nothing: its socket has been replaced.
- A process that stood still (` + "`EventSuspended`" + `) changes no state. A lease or grace that was running does not end before the
  start-up grace is over.

## Whether a subject can be reached

Connections and endpoints add up to the reach. It decides whether the status shows or is masked. Of several connections the
best counts.

`)
	writeReach(t, &b)
	b.WriteString(`
` + "`Policy.Virtual`" + ` sets how far virtual reach counts. With a record in storage, a subject that was live or lingering when the
process ended lingers in the next process for the start-up grace.

## Which status shows

The topmost layer that applies decides the status. Each layer was put in force together with each other one, in both orders,
and stands above the layers it won against. Layers in one box have the same rank, and the later one wins.

`)
	writeLayers(t, &b)
	b.WriteString(`
This was tried with idle stages on every status, choices that are no input, and a claim of each source. The claim of the
system is a lock, since a supervisor's claim ends other claims of the system. ` + "`Policy.Sources`" + ` orders the sources. Sources
that ` + "`Policy.DisconnectProof`" + ` lists show without a connection as well.

## The default policy at work

This is one person with one connection under ` + "`DefaultPolicy`" + `. A mask keeps the person's choice beneath it.

`)
	writeStatuses(t, &b)
	generated(t, "docs/state-machine.md", b.String())
}

// compiled returns a policy, changed and compiled.
func compiled(t *testing.T, change func(*presence.Policy)) *presence.Machine {
	t.Helper()
	p := presence.DefaultPolicy()
	change(&p)
	m, err := presence.Compile(p)
	require.NoError(t, err)
	return m
}

// tried is a state that was reached.
type tried struct {
	m *presence.Machine
	s presence.State
}

// feed returns what an event makes of the state, a while later.
func (s tried) feed(after time.Duration, e presence.Event) (tried, error) {
	next := tried{s.m, s.s.Clone()}
	e.Subject = presence.ID("ann")
	_, _, err := s.m.Step(&next.s, &e, max(s.s.Now, nineSharp).Add(after), nil)
	return next, err
}

// must is feed for what is not refused.
func (s tried) must(t *testing.T, e presence.Event) tried {
	t.Helper()
	next, err := s.feed(0, e)
	require.NoError(t, err)
	return next
}

// wait lets time pass until the next deadline.
func (s tried) wait() (tried, error) {
	at, ok := s.m.Next(&s.s)
	if !ok {
		return s, nil
	}
	return s.feed(at.Sub(s.s.Now), presence.Event{})
}

const tab = "tab-1"

func connects() presence.Event {
	return presence.Event{Kind: presence.EventConnect, Conn: tab, Node: "n", Incarnation: 1, Age: presence.NoAge}
}

func leaves(cause presence.Cause) presence.Event {
	return presence.Event{Kind: presence.EventDisconnect, Conn: tab, Cause: cause}
}

// The phases of a connection.
const (
	phaseLive   = "live"
	phaseSilent = "silent"
	phaseLeft   = "left"
	phaseGone   = "gone"
)

var phases = []string{phaseLive, phaseSilent, phaseLeft, phaseGone}

func phase(s *presence.State) string {
	for i := range s.Conns {
		switch c := &s.Conns[i]; {
		case c.ID != tab:
		case c.Left == 0:
			return phaseLive
		case c.Reported:
			return phaseLeft
		default:
			return phaseSilent
		}
	}
	return phaseGone
}

// stimulus is something that can happen.
type stimulus struct {
	name string
	do   func(tried) (tried, error)
}

func event(name string, e presence.Event) stimulus {
	return stimulus{name, func(s tried) (tried, error) { return s.feed(0, e) }}
}

// sentinel names the error that another one wraps.
func sentinel(t *testing.T, err error) string {
	t.Helper()
	for name, s := range map[string]error{
		"ErrUnknown": presence.ErrUnknown, "ErrStale": presence.ErrStale, "ErrDisabled": presence.ErrDisabled, "ErrNotAllowed": presence.ErrNotAllowed,
	} {
		if errors.Is(err, s) {
			return name
		}
	}
	require.NoError(t, err)
	return ""
}

func writeConnections(t *testing.T, b *strings.Builder) {
	t.Helper()
	m := compiled(t, func(p *presence.Policy) {
		p.Idle = nil
		p.Grace = presence.Grace{Logout: 5 * time.Second, Close: 5 * time.Second, Loss: 5 * time.Second, Node: 5 * time.Second, Drain: 5 * time.Second}
	})
	over := presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(presence.ID("ann")), Conn: tab, Claim: presence.Claim{Status: "busy"}}
	stimuli := []stimulus{
		event("connects under this id", connects()),
		event("heartbeat", presence.Event{Kind: presence.EventHeartbeat, Conn: tab, Age: presence.NoAge}),
		event("input", presence.Event{Kind: presence.EventInput, Conn: tab}),
		event("claim over it", over),
		event("closed", leaves(presence.CauseClosed)),
		event("reported lost", leaves(presence.CauseLost)),
		event("drained", leaves(presence.CauseDrain)),
		event("logout", presence.Event{Kind: presence.EventLogout, Conn: tab}),
		event("its node is down", presence.Event{Kind: presence.EventNodeDown, Node: "n", Incarnation: 1}),
		event("its node is back as another process", presence.Event{Kind: presence.EventNodeUp, Node: "n", Incarnation: 2}),
		event("presence is switched off", presence.Event{Kind: presence.EventDisable}),
		{"its lease or its grace is over", tried.wait},
	}
	start := tried{m: m}.must(t, presence.Event{Kind: presence.EventGrant})
	reached := map[string]tried{phaseGone: start}
	for grew := true; grew; {
		grew = false
		for _, from := range slices.Sorted(maps.Keys(reached)) {
			for _, st := range stimuli {
				next, _ := st.do(reached[from])
				if to := phase(&next.s); reached[to].m == nil {
					reached[to], grew = next, true
				}
			}
		}
	}
	require.ElementsMatch(t, phases, slices.Collect(maps.Keys(reached)))

	edges := make(map[[2]string][]string)
	var table strings.Builder
	table.WriteString("| What happens | live | silent | left | gone |\n| --- | --- | --- | --- | --- |\n")
	for _, st := range stimuli {
		fmt.Fprintf(&table, "| %s |", st.name)
		for _, from := range phases {
			next, err := st.do(reached[from])
			to := phase(&next.s)
			switch {
			case err != nil:
				require.Equal(t, from, to)
				fmt.Fprintf(&table, " `%s` |", sentinel(t, err))
			case to == from:
				table.WriteString(" stays |")
			default:
				fmt.Fprintf(&table, " %s |", to)
				edges[[2]string{from, to}] = append(edges[[2]string{from, to}], st.name)
			}
		}
		table.WriteString("\n")
	}
	b.WriteString("```mermaid\nstateDiagram-v2\n    state \"silent, lingering\" as silent\n    state \"left, lingering\" as left\n    [*] --> gone\n")
	for _, from := range phases {
		for _, to := range phases {
			if names := edges[[2]string{from, to}]; len(names) > 0 {
				fmt.Fprintf(b, "    %s --> %s: %s\n", from, to, strings.Join(names, ", "))
			}
		}
	}
	b.WriteString("```\n\n")
	b.WriteString(table.String())
}

func writeReach(t *testing.T, b *strings.Builder) {
	t.Helper()
	m := compiled(t, func(p *presence.Policy) {
		p.Virtual = map[string]presence.VirtualRule{"push": {Show: "top"}}
	})
	start := tried{m: m}.must(t, presence.Event{Kind: presence.EventGrant})
	live := start.must(t, connects())
	lost, err := live.wait()
	for err == nil && phase(&lost.s) == phaseLive { // past the idle stage
		lost, err = live.feed(presence.DefaultPolicy().Lease, presence.Event{})
	}
	require.NoError(t, err)
	require.Equal(t, phaseSilent, phase(&lost.s))
	left := live.must(t, leaves(presence.CauseClosed))
	require.Equal(t, phaseLeft, phase(&left.s))
	b.WriteString("| Connection | without an endpoint | with an endpoint, such as a telephone that takes pushes |\n| --- | --- | --- |\n")
	for i, s := range []tried{live, lost, left, start} {
		with := s.must(t, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "phone", Kind: presence.EndpointPush}})
		fmt.Fprintf(b, "| %s | %s | %s |\n", phases[i], s.s.Current.Reach, with.s.Current.Reach)
	}
}

// layer is one thing that can decide which status shows.
type layer struct {
	name   string
	status string // that shows then
	apply  []presence.Event
}

func writeLayers(t *testing.T, b *strings.Builder) {
	t.Helper()
	var claims []layer
	statuses := []string{"default", "idle", "gone"}
	for _, source := range slices.Concat(presence.DefaultSources()...) {
		id := string(source)
		e := presence.Event{Kind: presence.EventSetClaim, Claim: presence.Claim{Status: id}}
		switch source {
		case presence.SourceManual:
			e.Actor = presence.Agent(presence.ID("ann"))
		case presence.SourceSupervisor:
			e.Actor = presence.Actor{Subject: presence.ID("sue"), Role: presence.RoleSupervisor}
		default:
			e.Actor = presence.Actor{Subject: presence.ID("host"), Role: presence.RoleSystem}
			e.Claim.Source = source
		}
		if source == presence.SourceSystem {
			e.Claim.Key = presence.KeyLock
		}
		statuses = append(statuses, id)
		claims = append(claims, layer{"claim of source " + id, id, []presence.Event{e}})
	}
	m := compiled(t, func(p *presence.Policy) {
		p.Statuses = nil
		for _, id := range statuses {
			class := presence.ClassBusy
			switch id {
			case "default":
				class = presence.ClassAvailable
			case "idle":
				class = presence.ClassAway
			case "gone":
				class = presence.ClassOffline
			}
			p.Statuses = append(p.Statuses, presence.Status{ID: id, Class: class})
		}
		p.Default, p.Disconnected, p.Activity = "default", "gone", []string{"input"}
		p.Idle = []presence.IdleStage{{After: 5 * time.Minute, To: "idle", On: slices.DeleteFunc(slices.Clone(statuses), func(id string) bool { return id == "idle" || id == "gone" })}}
	})
	layers := append(claims,
		layer{"an idle stage is reached", "idle", []presence.Event{{Kind: presence.EventHeartbeat, Conn: tab, Age: 5 * time.Minute}}},
		layer{"cannot be reached", "gone", []presence.Event{{Kind: presence.EventLogout, Conn: tab}}},
		layer{"presence is switched off", presence.StatusDisabled, []presence.Event{{Kind: presence.EventDisable}}},
		layer{"nothing of it: the default", "default", nil},
	)
	start := tried{m: m}.must(t, connects())
	shows := func(list ...layer) presence.Presence {
		s := start
		for _, l := range list {
			for _, e := range l.apply {
				s, _ = s.feed(time.Second, e) // what is switched off takes no claims
			}
		}
		return s.s.Current
	}
	wins := func(a, c layer) bool { return shows(a, c).Status == a.status && shows(c, a).Status == a.status }
	above := func(l layer) (n int) { // how many it beats
		for _, other := range layers {
			if other.status != l.status && wins(l, other) {
				n++
			}
		}
		return n
	}
	slices.SortStableFunc(layers, func(x, y layer) int { return above(y) - above(x) })
	var ranks [][]layer
	for i, l := range layers {
		require.Equal(t, l.status, shows(l).Status, l.name)
		if i > 0 && above(layers[i-1]) == above(l) {
			ranks[len(ranks)-1] = append(ranks[len(ranks)-1], l)
			continue
		}
		ranks = append(ranks, []layer{l})
	}
	b.WriteString("```mermaid\nflowchart TD\n")
	for i, rank := range ranks {
		var names, results []string
		for _, l := range rank {
			for _, lower := range ranks[i+1:] {
				for _, other := range lower {
					require.True(t, wins(l, other), "%s over %s", l.name, other.name)
				}
			}
			for _, same := range rank {
				require.Equal(t, same.status, shows(l, same).Status, "%s after %s", same.name, l.name)
			}
			p := shows(l, layer{apply: nil})
			names = append(names, l.name)
			result := fmt.Sprintf("cause %s", p.Cause)
			if p.Masked != "" {
				result += ", masks what was chosen"
			}
			if len(results) == 0 || results[len(results)-1] != result {
				results = append(results, result)
			}
		}
		if i == len(ranks)-1 {
			fmt.Fprintf(b, "    q%d[\"%s<br>%s\"]\n", i, strings.Join(names, " or "), strings.Join(results, " or "))
			continue
		}
		fmt.Fprintf(b, "    q%d{\"%s?\"} -->|yes| a%d[\"%s\"]\n    q%d -->|no| q%d\n", i, strings.Join(names, " or "), i, strings.Join(results, " or "), i, i+1)
	}
	b.WriteString("```\n")
}

func writeStatuses(t *testing.T, b *strings.Builder) {
	t.Helper()
	m := compiled(t, func(*presence.Policy) {})
	chooses := func(status string) stimulus {
		return event("chooses "+status, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(presence.ID("ann")), Claim: presence.Claim{Status: status}})
	}
	stage := presence.DefaultPolicy().Idle[0].After
	stimuli := []stimulus{
		event("connects", connects()),
		event("input", presence.Event{Kind: presence.EventInput, Conn: tab}),
		chooses("busy"), chooses("available"),
		event("no input for 5 minutes", presence.Event{Kind: presence.EventHeartbeat, Conn: tab, Age: stage}),
		event("logs out", presence.Event{Kind: presence.EventLogout, Conn: tab}),
		{"the connection is lost", func(s tried) (tried, error) { // the lease and the grace run out
			return s.feed(presence.DefaultPolicy().Lease+presence.DefaultPolicy().Grace.Loss, presence.Event{})
		}},
	}
	shown := func(s tried) string {
		p := &s.s.Current
		if p.Masked != "" {
			return p.Status + ", masking " + p.Masked
		}
		return p.Status
	}
	// Two states that look alike differ in whether the person is idle.
	key := func(s tried) string {
		input := s.s.Input
		for i := range s.s.Conns {
			input = s.s.Conns[i].Input
		}
		return fmt.Sprint(shown(s), s.s.Now.Sub(input) >= stage)
	}
	start := tried{m: m}.must(t, connects())
	names, edges := []string{shown(start)}, make(map[[2]string][]string)
	visited := map[string]bool{key(start): true}
	for queue := []tried{start}; len(queue) > 0; queue = queue[1:] {
		from := queue[0]
		for _, st := range stimuli {
			next, err := st.do(from)
			if err != nil {
				continue
			}
			if !visited[key(next)] {
				visited[key(next)] = true
				queue = append(queue, next)
			}
			if !slices.Contains(names, shown(next)) {
				names = append(names, shown(next))
			}
			if e := [2]string{shown(from), shown(next)}; e[0] != e[1] && !slices.Contains(edges[e], st.name) {
				edges[e] = append(edges[e], st.name)
			}
		}
	}
	require.Less(t, len(visited), 50)
	b.WriteString("```mermaid\nstateDiagram-v2\n")
	for i, name := range names {
		fmt.Fprintf(b, "    state \"%s\" as s%d\n", name, i)
	}
	b.WriteString("    [*] --> s0\n")
	for i, from := range names {
		for j, to := range names {
			if list := edges[[2]string{from, to}]; len(list) > 0 {
				fmt.Fprintf(b, "    s%d --> s%d: %s\n", i, j, strings.Join(list, ", "))
			}
		}
	}
	b.WriteString("```\n\n")
	b.WriteString("Two states can show the same and have the same event, such as *connects* from offline. Its edges lead to each end that\n" +
		"some history has: a person who was idle before is idle after, since connecting is no input.\n")
}

// The policy guide has every key of a policy with what the code says of it, and
// what each audience sees by default.
func TestDocsPolicy(t *testing.T) {
	const name = "docs/policy.md"
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	parts := 0
	text := regexp.MustCompile(`(?s)(<!-- (keys|views) -->\n).*?(<!-- end -->)`).ReplaceAllStringFunc(string(data), func(part string) string {
		parts++
		head, _, _ := strings.Cut(part, "\n")
		body := defaultViews()
		if strings.Contains(head, "keys") {
			body = policyKeys(t)
		}
		return head + "\n" + body + "<!-- end -->"
	})
	require.Equal(t, 2, parts)
	generated(t, name, text)

	_, example, found := strings.Cut(text, "```json\n")
	require.True(t, found)
	example, _, _ = strings.Cut(example, "```")
	_, warnings, err := presence.ParsePolicy([]byte(example), preset.Lookup)
	require.NoError(t, err)
	require.Empty(t, warnings)
}

// defaultViews returns the table of what each audience sees by default.
func defaultViews() string {
	audiences := []presence.Audience{presence.AudienceSelf, presence.AudienceTeam, presence.AudienceSupervisor, presence.AudienceAdmin, presence.AudienceVisitor, presence.AudienceRouter}
	views := presence.DefaultViews()
	var b strings.Builder
	b.WriteString("| field |")
	for _, a := range audiences {
		fmt.Fprintf(&b, " %s |", a)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(audiences)) + "\n")
	for _, field := range views[presence.AudienceAdmin] {
		fmt.Fprintf(&b, "| `%s` |", field)
		for _, a := range audiences {
			mark := ""
			if slices.Contains(views[a], field) {
				mark = "yes"
			}
			fmt.Fprintf(&b, " %s |", mark)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// policyKeys returns the tables of a policy's keys, from the fields and comments
// of the types that make one up.
func policyKeys(t *testing.T) string {
	t.Helper()
	structs := make(map[string]*ast.StructType)
	for _, name := range []string{"policy.go", "work.go", "compile.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					structs[spec.Name.Name] = s
				}
			}
			return true
		})
	}
	var b strings.Builder
	var table func(name, path string)
	table = func(name, path string) {
		s := structs[name]
		require.NotNil(t, s, name)
		heading := "The policy"
		if path != "" {
			heading = "`" + path + "`"
		}
		fmt.Fprintf(&b, "### %s\n\n| key | what it says |\n| --- | --- |\n", heading)
		type inner struct{ name, path string }
		var nested []inner
		for _, field := range s.Fields.List {
			tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json")
			key, _, _ := strings.Cut(tag, ",")
			words := strings.TrimSpace(field.Doc.Text() + " " + field.Comment.Text())
			kind, of := typeWords(field.Type)
			if structs[of] != nil {
				nested = append(nested, inner{of, strings.TrimPrefix(path+"."+key, ".")})
			}
			require.NotEmpty(t, words, "%s.%s has no comment", name, key)
			fmt.Fprintf(&b, "| `%s` %s | %s |\n", key, kind, sentence(words))
		}
		b.WriteString("\n")
		for _, n := range nested {
			if n.name != "Grace" || n.path == "grace" { // a device's grace has the same keys
				table(n.name, n.path)
			}
		}
	}
	table("Policy", "")
	return strings.TrimSuffix(b.String(), "\n")
}

// typeWords returns what a type is in JSON, and the type of its elements.
func typeWords(e ast.Expr) (words, of string) {
	switch e := e.(type) {
	case *ast.ArrayType:
		words, of = typeWords(e.Elt)
		return "list of " + words, of
	case *ast.MapType:
		words, of = typeWords(e.Value)
		return "object of " + words, of
	case *ast.SelectorExpr:
		return "duration", ""
	case *ast.Ident:
		switch e.Name {
		case "bool", "int":
			return e.Name, ""
		case "float64":
			return "number", ""
		case "string", "Class", "Routing", "Source", "Audience", "Verdict":
			return "string", ""
		}
		return "object", e.Name
	}
	return "object", ""
}

// sentence returns a comment as one line of a table, without the links of Go.
func sentence(comment string) string {
	line := strings.Join(strings.Fields(comment), " ")
	line = regexp.MustCompile(`\[([A-Za-z.]+)\]`).ReplaceAllString(line, "`$1`")
	return strings.ToUpper(line[:1]) + strings.ReplaceAll(line[1:], "|", `\|`)
}
