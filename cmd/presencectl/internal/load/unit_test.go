package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFlags(t *testing.T) {
	t.Parallel()
	c, err := parse(nil, 1024)
	require.NoError(t, err, "the defaults are for the help desk")
	require.Equal(t, "ws://127.0.0.1:8080/ws?agent={id}", c.AgentURL)
	require.Equal(t, 6*time.Second, c.Ramp)

	c, err = parse([]string{"-serve", "-agents", "200", "-visitors", "800", "-for", "10s", "-ramp", "0s", "-stay", "0"}, 0)
	require.NoError(t, err)
	require.Equal(t, "agent-{n}", c.Names)
	require.Zero(t, c.Ramp)
	require.Zero(t, c.every[actLeave])

	tokens := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("ann abc\n\n* xyz\n"), 0o600))
	bad := filepath.Join(t.TempDir(), "bad")
	require.NoError(t, os.WriteFile(bad, []byte("ann\n"), 0o600))
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for args, wants := range map[string][]string{
		"-agents -1 -visitors 100001":              {"-agents -1: want 0 to 100000", "-visitors 100001: want 0 to 100000"},
		"-agents 0 -visitors 0":                    {"want at least one"},
		"-agents x -bogus -for 1h30":               {`invalid value "x" for flag -agents`, "not defined: -bogus", `invalid value "1h30"`},
		"-for 10ms -ramp 2h -claim 1s -input -1s":  {"-for 10ms: want 1s to", "-ramp 2h0m0s: want 0 to", "-claim 1s: want 7s or more, or 0", "-input -1s: want 100ms"},
		"-visitors 2000":                           {"2006 connections need 2038 open files, and this process may have 1024 (RLIMIT_NOFILE, ulimit -n)", "want 992 connections at most"},
		"-agents 100":                              {"50 connections for each", "want 16 at most, 32 in all"},
		"-url http://x/ -as-agent ?a={id}":         {`"http://x/?a={id}" is no address of a WebSocket`},
		"-as-agent ?a -as-visitor ?v":              {"nothing tells the server who is who"},
		"-as-agent ?a={token}":                     {"{token} stands for what -tokens gives"},
		"-header X":                                {"want 'NAME: VALUE'"},
		"-names , -channel  -visitor-names x":      {`-names ","`, `-visitor-names "x": want {n}`},
		"-serve -url ws://x/ -pid 1 -tokens x":     {"-url is for a running server", "-pid is for", "-tokens is for"},
		"-tokens " + bad:                           {":1: want an id and a token"},
		"-tokens " + empty:                         {"the file has no token"},
		"-tokens /no/such/file -svg /no/such/x.sv": {"/no/such/file", "/no/such"},
		"-pid -5": {"-pid -5: want the number of a process"},
		"now":     {`it takes flags only, got ["now"]`},
	} {
		_, err := parse(strings.Split(args, " "), 1024)
		require.Error(t, err, args)
		for _, want := range wants {
			require.ErrorContains(t, err, want, args)
		}
	}
	_, err = parse([]string{"-for", "5"}, 1024)
	require.NotContains(t, err.Error(), "\n", "a value that cannot be read is one fault")
	if usable() {
		_, err := parse([]string{"-pid", "2147483647"}, 1024)
		require.ErrorContains(t, err, "want a process of this machine")
	}
	_, err = parse([]string{"-tokens", tokens, "-as-agent", "", "-as-visitor", ""}, 1024)
	require.NoError(t, err)

	var out bytes.Buffer
	require.Error(t, Command(t.Context(), []string{"-h"}, &out, &out))
	require.Equal(t, Usage, out.String())
}

func TestAddress(t *testing.T) {
	t.Parallel()
	r := newRunner(&Config{
		AgentURL: "ws://x/a?id={id}", VisitorURL: "ws://x/v?id={id}&t={token}", tokens: map[string]string{"ann": "a+b", "*": "all"},
		headers: []header{{"Cookie", "user={id}"}},
	}, nil)
	address, h := r.address(true, "ann&bob")
	require.Equal(t, "ws://x/a?id=ann%26bob", address)
	require.Equal(t, "user=ann&bob", h.Get("Cookie"))
	require.Empty(t, h.Get("Authorization"), "the token replaces {token}")
	address, _ = r.address(false, "ann")
	require.Equal(t, "ws://x/v?id=ann&t=a%2Bb", address)
	address, _ = r.address(false, "bob")
	require.Equal(t, "ws://x/v?id=bob&t=all", address)

	r.VisitorURL = "ws://x/v"
	_, h = r.address(true, "ann")
	require.Equal(t, "Bearer a+b", h.Get("Authorization"))
}

// TestBounds checks the limits for names that the server invents.
func TestBounds(t *testing.T) {
	t.Parallel()
	var names tally
	var list faults
	for i := range 100 {
		names.add(fmt.Sprint("code", i))
		list.add(fmt.Sprint("kind", i), "\x1b[2J%s", strings.Repeat("x", 1000))
	}
	require.Len(t, names.all(), maxNames+1)
	require.Equal(t, uint64(100-maxNames), names.all()[otherNames])
	all, n := list.all()
	require.Len(t, all, maxNames)
	require.Equal(t, uint64(100), n)
	require.Len(t, all[0].First, 400)
	require.NotContains(t, all[0].First, "\x1b")

	fs := newFrames(nil)
	for i := range 3000 {
		_, err := fs.take(fmt.Appendf(nil, `{"type":"diff","channel":{"id":"c"},"epoch":"e","seq":%d}`, i))
		require.NoError(t, err)
	}
	require.Len(t, fs.known, len(fs.ring))
}

func TestFrames(t *testing.T) {
	t.Parallel()
	ann := &person{id: "ann"}
	fs := newFrames(map[string]*person{"ann": ann})
	take := func(text string) *frame {
		f, err := fs.take([]byte(text))
		require.NoError(t, err)
		return f
	}
	now := time.Now()
	require.True(t, ann.claims(now, "busy", "load 1"))
	require.False(t, ann.claims(now.Add(between-1), "away", "load 2"), "one at a time")
	const head = `"channel":{"id":"c"},"group":{"count":1}`
	var l list
	require.NoError(t, l.apply(take(`{"type":"snapshot",`+head+`,"epoch":"e","seq":1,"members":[{"id":"ann","status":"away"}]}`)))
	other := take(`{"type":"diff",` + head + `,"epoch":"e","seq":2,"changes":[{"op":"updated","subject":{"id":"ann"},"view":{"id":"ann","status":"busy","text":"load 0"}}]}`)
	require.Zero(t, other.sent, "of an earlier claim")
	text := `{"type":"diff",` + head + `,"epoch":"e","seq":3,"changes":[{"op":"updated","subject":{"id":"ann"},"view":{"id":"ann","status":"busy","text":"load 1"}}]}`
	f := take(text)
	require.Equal(t, now, f.sent)
	require.Same(t, f, take(text), "taken apart once")
	require.Zero(t, take(strings.Replace(text, `"seq":3`, `"seq":4`, 1)).sent, "it has been seen in this epoch")
	require.Equal(t, now, take(strings.NewReplacer(`"e"`, `"f"`, `,"text":"load 1"`, "").Replace(text)).sent, "in another, which shows no texts")
	require.Equal(t, uint64(1), fs.seen)

	require.ErrorContains(t, l.apply(f), "diff 3 came after frame 1")
	require.NoError(t, l.apply(take(strings.Replace(text, `"seq":3`, `"seq":4`, 1))))
	require.ErrorContains(t, l.apply(take(strings.Replace(text, `"e"`, `"g"`, 1))), "epoch g came after")
	require.ErrorContains(t, new(list).apply(f), "before a snapshot")

	// The order of fields makes no difference, and a removed row leaves nothing.
	var a, b list
	require.NoError(t, a.apply(take(`{"type":"snapshot",`+head+`,"epoch":"e","seq":1,"members":[{"id":"ann","status":"away"},{"id":"bob"}]}`)))
	require.NoError(t, a.apply(take(`{"type":"diff",`+head+`,"epoch":"e","seq":2,"changes":[{"op":"left","subject":{"id":"bob"}}]}`)))
	require.NoError(t, b.apply(take(`{"type":"snapshot",`+head+`,"epoch":"e","seq":2,"members":[{"status":"away","id":"ann"}]}`)))
	require.Empty(t, a.differs(&b))

	for text, want := range map[string]string{
		`{"type":"diff"`:                       "unexpected end",
		`{"type":"diff","channel":{"id":"c"}}`: "has no epoch",
		`{"type":"diff","epoch":"e","changes":[{"op":"jumped","subject":{"id":"x"}}]}`:               `op "jumped"`,
		`{"type":"diff","epoch":"e","changes":[{"op":"left","subject":{}}]}`:                         "a row has no id",
		`{"type":"snapshot","epoch":"e","members":["ann"]}`:                                          "cannot unmarshal string",
		`{"type":"diff","epoch":"e","changes":[{"op":"left","subject":{"id":"x"},"view":{"id":1}}]}`: "cannot unmarshal number",
	} {
		_, err := fs.take([]byte(text))
		require.ErrorContains(t, err, want)
	}
	require.True(t, json.Valid([]byte(quote("a\x00\"é"))))
}
