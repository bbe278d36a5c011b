// Package load puts load on a running presence server. Agents and visitors use
// real WebSockets and the protocol of adapters/wire. Each builds its own list,
// which is compared with a fresh one at the end.
package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/presence-go/presence/internal/fleet"
)

// ErrFaults reports that the server made an error.
var ErrFaults = errors.New("the server is at fault")

// Usage is the help text of the command.
const Usage = `usage:
  presencectl load [FLAGS]          put load on a server, by default on examples/helpdesk
  presencectl load -serve [FLAGS]   put load on a server of its own

Agents keep their connections, answer pings, choose statuses, idle, reload, lose the network and log out. Visitors watch
the channel, leave, and others follow. At the end the list of every client is compared with a fresh one.

how much
  -agents N         connections of agents (6)
  -visitors N       visitors at a time (24)
  -for D            how long (30s)
  -ramp D           the time in which all connect at first (a fifth of -for)

where
  -url URL          of the server, ws or wss (ws://127.0.0.1:8080/ws)
  -as-agent TEXT    appended to -url for an agent (?agent={id})
  -as-visitor TEXT  appended to -url for a visitor (?visitor={id})
  -header TEXT      a header such as 'Cookie: user={id}' of every request; may be repeated
  -tokens FILE      tokens, "ID TOKEN" on each line, * as ID for all others; sent as Authorization: Bearer, or where an
                    address or header has {token}
  -channel ID       the channel that all clients watch; agents need a grant of it (sales)
  -names LIST       ids of agents, which take turns, separated by commas, or one with {n} for a number (ann,bob)
  -visitor-names T  ids of visitors, with {n} for a number (load-{n})
  -serve            start a server instead, with the default policy and agents agent-1 and so on

the average time between two actions of a client; 0 for never
  -claim D          an agent chooses a status (10s; a server takes 10 a minute, 9 are sent)
  -input D          types or clicks (5s)
  -idle D           returns to a page without input for an hour (1m)
  -reload D         reloads the page (1m)
  -lose D           loses the connection (2m)
  -logout D         logs out and in (5m)
  -stay D           a visitor leaves (30s; 0 for staying)

results
  -svg FILE         write a picture
  -json FILE        write all figures
  -pid PID          the server's process on this machine, to report its memory and CPU

It exits with 1 if the server made an error: sessions that ended or were not opened, messages refused or not answered,
frames out of order, lists that differ.
`

const (
	maxClients = 100_000
	// maxTabs is the maximum number of connections of one agent. It is half of the
	// server's limit, because a lost connection may still count beside its
	// successor.
	maxTabs = 16
	// spareFiles is the number of open files for other uses.
	spareFiles = 32
	maxFor     = 7 * 24 * time.Hour
)

// flagName finds the flag in an error of package flag.
var flagName = regexp.MustCompile(`for flag -([a-z-]+):`)

// command is the options of the flags.
type command struct {
	Config
	url, asAgent, asVisitor string
	tokenFile, svg, json    string
	serve                   bool
}

// paces are the flags for how often a client acts.
var paces = []struct {
	name         string
	action       int
	usual, least time.Duration
}{
	{"claim", actClaim, 10 * time.Second, 7 * time.Second},
	{"input", actInput, 5 * time.Second, 100 * time.Millisecond},
	{"idle", actIdle, time.Minute, time.Second},
	{"reload", actReload, time.Minute, time.Second},
	{"lose", actLose, 2 * time.Minute, time.Second},
	{"logout", actLogout, 5 * time.Minute, time.Second},
	{"stay", actLeave, 30 * time.Second, time.Second},
}

// parse reads flags. It returns all errors in them joined.
func parse(args []string, maxFiles uint64) (*command, error) {
	c := &command{Config: Config{patience: 10 * time.Second}}
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var wrong []error
	fault := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf("load: "+format, args...)) }
	c.declare(flags)
	for {
		err := flags.Parse(args)
		if err == nil {
			break
		}
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		fault("%w", err)
		// The flag has an error already: reset it, so that it has no second one.
		if m := flagName.FindStringSubmatch(err.Error()); m != nil {
			if f := flags.Lookup(m[1]); f != nil && f.DefValue != "" {
				_ = f.Value.Set(f.DefValue) // the default is valid
			}
		}
		args = flags.Args()
	}
	if flags.NArg() > 0 {
		fault("it takes flags only, got %q", flags.Args())
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	c.checkAmounts(given, maxFiles, fault)
	if c.serve {
		c.checkServe(given, fault)
	}
	c.checkNames(fault)
	c.AgentURL, c.VisitorURL = c.url+c.asAgent, c.url+c.asVisitor
	c.checkAddresses(fault)
	c.checkFiles(fault)
	return c, errors.Join(wrong...)
}

// declare declares all flags, with their defaults.
func (c *command) declare(flags *flag.FlagSet) {
	flags.IntVar(&c.Agents, "agents", 6, "")
	flags.IntVar(&c.Visitors, "visitors", 24, "")
	flags.DurationVar(&c.For, "for", 30*time.Second, "")
	flags.DurationVar(&c.Ramp, "ramp", 0, "")
	flags.StringVar(&c.url, "url", "ws://127.0.0.1:8080/ws", "")
	flags.StringVar(&c.asAgent, "as-agent", "?agent={id}", "")
	flags.StringVar(&c.asVisitor, "as-visitor", "?visitor={id}", "")
	flags.Func("header", "", c.addHeader)
	flags.StringVar(&c.tokenFile, "tokens", "", "")
	flags.StringVar(&c.Channel, "channel", "sales", "")
	flags.StringVar(&c.Names, "names", "ann,bob", "")
	flags.StringVar(&c.VisitorNames, "visitor-names", "load-{n}", "")
	flags.BoolVar(&c.serve, "serve", false, "")
	flags.StringVar(&c.svg, "svg", "", "")
	flags.StringVar(&c.json, "json", "", "")
	flags.IntVar(&c.PID, "pid", 0, "")
	for _, p := range paces {
		flags.DurationVar(&c.every[p.action], p.name, p.usual, "")
	}
}

// addHeader adds a header for every request.
func (c *command) addHeader(text string) error {
	name, value, found := strings.Cut(text, ":")
	if !found || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) ||
		strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("want 'NAME: VALUE' on one line")
	}
	c.headers = append(c.headers, header{name, strings.TrimSpace(value)})
	return nil
}

// isBounded reports whether the numbers of clients are within their limits.
func (c *command) isBounded() bool {
	return c.Agents >= 0 && c.Agents <= maxClients && c.Visitors >= 0 && c.Visitors <= maxClients
}

func (c *command) checkAmounts(given map[string]bool, maxFiles uint64, fault func(string, ...any)) {
	for _, p := range paces {
		if d := c.every[p.action]; d != 0 && d < p.least {
			fault("-%s %v: want %v or more, or 0 for never", p.name, d, p.least)
		}
	}
	for name, n := range map[string]int{"agents": c.Agents, "visitors": c.Visitors} {
		if n < 0 || n > maxClients {
			fault("-%s %d: want 0 to %d", name, n, maxClients)
		}
	}
	if c.isBounded() && c.Agents+c.Visitors == 0 {
		fault("no agents and no visitors: want at least one of either")
	}
	if need := uint64(c.Agents + c.Visitors + spareFiles); c.isBounded() && maxFiles > 0 && need > maxFiles {
		fault("%d connections need %d open files, and this process may have %d (RLIMIT_NOFILE, ulimit -n): raise that, or want %d connections at most",
			c.Agents+c.Visitors, need, maxFiles, max(int64(maxFiles)-spareFiles, 0))
	}
	if c.For < time.Second || c.For > maxFor {
		fault("-for %v: want 1s to %v", c.For, maxFor)
	}
	if !given["ramp"] {
		c.Ramp = max(c.For/5, 0)
	} else if c.Ramp < 0 || c.Ramp > c.For {
		fault("-ramp %v: want 0 to the value of -for, %v", c.Ramp, c.For)
	}
}

func (c *command) checkServe(given map[string]bool, fault func(string, ...any)) {
	for _, name := range []string{"url", "as-agent", "as-visitor", "header", "tokens", "pid", "visitor-names"} {
		if given[name] {
			fault("-%s is for a running server, and -serve starts one", name)
		}
	}
	if !given["names"] {
		c.Names = "agent-{n}"
	}
}

func (c *command) checkAddresses(fault func(string, ...any)) {
	if c.tokenFile != "" {
		var err error
		if c.tokens, err = readTokens(c.tokenFile); err != nil {
			fault("-tokens: %w", err)
		}
	}
	for _, address := range []string{c.AgentURL, c.VisitorURL} {
		plain := strings.NewReplacer("{id}", "x", "{token}", "x").Replace(address)
		if u, err := url.ParseRequestURI(plain); err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.User != nil || u.Fragment != "" {
			fault("%q is no address of a WebSocket: want ws://HOST[:PORT]/PATH or wss://", address)
		}
	}
	if !strings.Contains(c.patterns(), "{id}") && c.tokenFile == "" {
		fault("nothing tells the server who is who: put {id} into -as-agent, -as-visitor or -header, or give -tokens")
	}
	if strings.Contains(c.patterns(), "{token}") && c.tokenFile == "" {
		fault("{token} stands for what -tokens gives, which is missing")
	}
}

func (c *command) checkFiles(fault func(string, ...any)) {
	if c.PID < 0 {
		fault("-pid %d: want the number of a process", c.PID)
	} else if c.PID > 0 {
		if _, _, err := fleet.Usage(c.PID); err != nil && usable() {
			fault("-pid %d: %w; want a process of this machine", c.PID, err)
		}
	}
	for _, file := range []string{c.svg, c.json} {
		if file == "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(file)); err != nil {
			fault("%w", err)
		} else if !info.IsDir() {
			fault("%s is not a folder", filepath.Dir(file))
		}
	}
}

// usable reports whether this system shows the use of processes.
func usable() bool {
	_, _, err := fleet.Usage(os.Getpid())
	return err == nil
}

func (c *command) checkNames(fault func(string, ...any)) {
	if c.Channel == "" || len(c.Channel) > 128 {
		fault("-channel %q: want 1 to 128 bytes", c.Channel)
	}
	if !strings.Contains(c.VisitorNames, "{n}") {
		fault("-visitor-names %q: want {n} in it, since every visitor has an id of its own", c.VisitorNames)
	}
	people := make(map[string]int)
	for i := range min(max(c.Agents, 0), maxClients) {
		people[numbered(c.Names, i)]++
	}
	if _, empty := people[""]; empty {
		fault("-names %q: want ids separated by commas, or one with {n}", c.Names)
	} else if n := len(people); n > 0 && c.isBounded() {
		if most := (c.Agents + n - 1) / n; most > maxTabs {
			fault("-agents %d are %d connections for each of %q: want %d at most, %d in all; or more -names, such as agent-{n}, whom the server knows",
				c.Agents, most, c.Names, maxTabs, n*maxTabs)
		}
	}
}

// readTokens reads a file of ids and tokens.
func readTokens(name string) (map[string]string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	tokens := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0:
		case len(fields) != 2:
			return nil, fmt.Errorf("%s:%d: want an id and a token", name, n)
		default:
			tokens[fields[0]] = fields[1]
		}
	}
	if len(tokens) == 0 && lines.Err() == nil {
		return nil, fmt.Errorf("%s: the file has no token", name)
	}
	return tokens, lines.Err()
}

// urls are the addresses of the load.
func (c *Config) urls() []string {
	var list []string
	if c.Agents > 0 {
		list = append(list, c.AgentURL)
	}
	if c.Visitors > 0 {
		list = append(list, c.VisitorURL)
	}
	return slices.Compact(list)
}

// Command runs the command until the load is over or ctx is done. If ctx is
// done, the result covers the time until then. It returns an error for wrong
// flags or an absent server, and [ErrFaults] for faults of the server.
func Command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, maxFiles())
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, Usage)
		return err
	}
	if err != nil {
		return err
	}
	if c.serve {
		own, err := fleet.StartChild((*exec.Cmd).Start, ServerCommand, c.Channel, c.Names, strconv.Itoa(c.Agents))
		if err != nil {
			return fmt.Errorf("load: %w", err)
		}
		defer func() { _ = own.Stop() }() // the child has written its errors to stderr
		c.PID = own.PID
		c.AgentURL, c.VisitorURL = own.Address+c.asAgent, own.Address+c.asVisitor
	}
	result, err := Run(ctx, &c.Config, stderr)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	result.writeText(stdout)
	var faults []error
	if c.svg != "" {
		faults = append(faults, os.WriteFile(c.svg, result.svg(), 0o644))
	}
	if c.json != "" {
		data, err := json.MarshalIndent(result, "", "  ")
		faults = append(faults, err, os.WriteFile(c.json, append(data, '\n'), 0o644))
	}
	if result.FaultCount > 0 {
		faults = append(faults, fmt.Errorf("load: %w: %d faults", ErrFaults, result.FaultCount))
	}
	return errors.Join(faults...)
}

// Run runs the load and reports progress. It returns an error if the server
// accepts no client.
func Run(ctx context.Context, c *Config, progress io.Writer) (*Result, error) {
	if err := newRunner(c, progress).try(ctx); err != nil {
		return nil, err
	}
	return newRunner(c, progress).execute(ctx), nil
}
