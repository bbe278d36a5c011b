package conf_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/conf"
)

type (
	color string
	level int8

	status struct {
		Color  color             `json:"color"`
		Order  int               `json:"order"`
		Labels map[string]string `json:"labels,omitzero"`
	}
	stage struct {
		ID    string        `json:"id"`
		On    []color       `json:"on"`
		After time.Duration `json:"after"`
		Steps []step        `json:"steps,omitzero"`
	}
	step struct {
		Wait time.Duration `json:"wait"`
	}
	grace struct {
		Close time.Duration `json:"close"`
	}
	config struct {
		Name     string                    `json:"name"`
		Active   bool                      `json:"active"`
		Level    level                     `json:"level"`
		Port     uint16                    `json:"port"`
		Rate     float64                   `json:"rate"`
		Idle     []stage                   `json:"idle"`
		Statuses map[color]status          `json:"statuses"`
		Grace    grace                     `json:"grace"`
		Tags     []string                  `json:"tags"`
		Waits    []time.Duration           `json:"waits,omitzero"`
		Limits   map[string]time.Duration  `json:"limits,omitzero"`
		Nested   map[string]map[string]int `json:"nested,omitzero"`
		Groups   []map[string]int          `json:"groups,omitzero"`
		Grid     [][]string                `json:"grid,omitzero"`
		Note     string                    `json:"note,omitzero"`
		Untagged string                    // ignored
		Dashed   string                    `json:"-"`
		Unnamed  string                    `json:",omitzero"`
		hidden   string                    // copied as it is
	}
)

// MarshalJSON must not be called: the codec looks at the kind only.
func (level) MarshalJSON() ([]byte, error) { return []byte(`"loud"`), nil }

func sample() config {
	return config{
		Name:  "R&D <1>",
		Level: -3,
		Rate:  0.5,
		Idle: []stage{
			{ID: "soft", On: []color{"online", "busy"}, After: 5 * time.Minute},
			{ID: "hard", After: time.Hour, Steps: []step{{Wait: time.Second}}},
		},
		Statuses: map[color]status{
			"online": {Color: "green", Order: 1},
			"busy":   {Color: "red", Order: 2, Labels: map[string]string{"de": "besetzt"}},
		},
		Grace:    grace{Close: 250 * time.Millisecond},
		Untagged: "u",
		Dashed:   "d",
		Unnamed:  "n",
		hidden:   "h",
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	want := `{
  "name": "R&D <1>",
  "active": false,
  "level": -3,
  "port": 0,
  "rate": 0.5,
  "idle": [
    {
      "id": "soft",
      "on": [
        "online",
        "busy"
      ],
      "after": "5m"
    },
    {
      "id": "hard",
      "on": [],
      "after": "1h",
      "steps": [
        {
          "wait": "1s"
        }
      ]
    }
  ],
  "statuses": {
    "busy": {
      "color": "red",
      "order": 2,
      "labels": {
        "de": "besetzt"
      }
    },
    "online": {
      "color": "green",
      "order": 1
    }
  },
  "grace": {
    "close": "250ms"
  },
  "tags": []
}
`
	c := sample()
	for name, src := range map[string]any{"value": c, "pointer": &c} {
		got, err := conf.Encode(src)
		require.NoError(t, err, name)
		require.Equal(t, want, string(got), name)
	}
	got, err := conf.Encode(config{Tags: []string{}, Limits: map[string]time.Duration{}, Waits: []time.Duration{}})
	require.NoError(t, err)
	require.Contains(t, string(got), `"statuses": {}`, "a nil map")
	require.Contains(t, string(got), `"tags": []`)
	require.Contains(t, string(got), `"waits": []`, "empty is not zero")
	require.Contains(t, string(got), `"limits": {}`, "empty is not zero")
	require.NotContains(t, string(got), "grid")
}

func TestEncodeDurations(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                                     "0s",
		10 * time.Second:                      "10s",
		5 * time.Minute:                       "5m",
		10 * time.Minute:                      "10m",
		90 * time.Second:                      "1m30s",
		time.Hour:                             "1h",
		10 * time.Hour:                        "10h",
		time.Hour + time.Second:               "1h0m1s",
		time.Hour + 10*time.Minute:            "1h10m",
		-5 * time.Minute:                      "-5m",
		250 * time.Millisecond:                "250ms",
		1500 * time.Millisecond:               "1.5s",
		time.Microsecond:                      "1µs",
		time.Duration(math.MinInt64):          "-2562047h47m16.854775808s",
		24*time.Hour + 5*time.Minute:          "24h5m",
		100 * time.Hour / 3 * 3:               "100h",
		time.Hour + 500*time.Millisecond:      "1h0m0.5s",
		20*time.Minute + 30*time.Second:       "20m30s",
		time.Hour + time.Minute + time.Second: "1h1m1s",
		20*time.Hour + 30*time.Minute:         "20h30m",
	} {
		got, err := conf.Encode(d)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%q\n", want), string(got))
		var back grace
		_, err = conf.Decode(fmt.Appendf(nil, `{"close": %q}`, want), &back)
		require.NoError(t, err)
		require.Equal(t, d, back.Close)
	}
}

func TestEncodeFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		src  any
		want string
	}{
		{"nil", nil, "conf: want a configuration, got nil"},
		{"nil pointer", (*config)(nil), "conf: want a configuration, got nil"},
		{"not a number", config{Rate: math.NaN()}, "rate: want a finite number, got NaN"},
		{"infinite", []float64{1, math.Inf(-1)}, "[1]: want a finite number, got -Inf"},
		{"bytes in a value", config{Idle: []stage{{ID: "a\xff"}}}, `idle[0].id: want UTF-8 text, got "a\xff"`},
		{"bytes in a key", map[string]int{"\xff": 1}, `["\xff"]: want UTF-8 text, got "\xff"`},
		{"root value", "\xff", `conf: want UTF-8 text, got "\xff"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := conf.Encode(tt.src)
			require.EqualError(t, err, tt.want)
		})
	}
}

type (
	recursive struct {
		Next []recursive `json:"next"`
	}
	hollow struct{ A int }
)

func TestUnsupportedTypes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		dst  any
		want string
	}{
		{&struct {
			F func() `json:"f"`
		}{}, `conf: struct { F func() "json:\"f\"" }.f: type func() is not supported`},
		{&struct {
			A []any `json:"a"`
		}{}, `conf: struct { A []interface {} "json:\"a\"" }.a: type interface {} is not supported`},
		{&struct {
			A float32 `json:"a"`
		}{}, `conf: struct { A float32 "json:\"a\"" }.a: type float32 is not supported`},
		{&struct {
			A [2]int `json:"a"`
		}{}, `conf: struct { A [2]int "json:\"a\"" }.a: type [2]int is not supported`},
		{&struct {
			M map[int]int `json:"m"`
		}{}, `conf: struct { M map[int]int "json:\"m\"" }.m: type map[int]int is not supported`},
		{&struct {
			T time.Time `json:"t"`
		}{}, `conf: struct { T time.Time "json:\"t\"" }.t: type time.Time has no exported field with a json tag`},
		{&hollow{}, `conf: conf_test.hollow: type conf_test.hollow has no exported field with a json tag`},
		{&recursive{}, `conf: conf_test.recursive.next: type conf_test.recursive contains itself or is nested deeper than 32 levels`},
	} {
		_, err := conf.Encode(tt.dst)
		require.EqualError(t, err, tt.want)
		_, err = conf.Decode([]byte(`{}`), tt.dst)
		require.EqualError(t, err, tt.want)
		require.EqualError(t, conf.Set(tt.dst, "a", "1"), tt.want)
	}
	for _, dst := range []any{nil, config{}, (*config)(nil), new(int), new(map[string]int)} {
		want := fmt.Sprintf("conf: want a non-nil pointer to a struct, got %T", dst)
		_, err := conf.Decode([]byte(`{}`), dst)
		require.EqualError(t, err, want)
		require.EqualError(t, conf.Set(dst, "a", "1"), want)
	}
}

func TestDecodeOnto(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		json   string
		change func(c *config)
	}{
		{"nothing", ` {} `, func(c *config) {}},
		{"scalars", `{"name":"x","active":true,"level":127,"port":65535,"rate":1e3,"note":""}`, func(c *config) {
			c.Name, c.Active, c.Level, c.Port, c.Rate = "x", true, 127, 65535, 1000
		}},
		{"a struct merges", `{"grace":{"close":"0"}}`, func(c *config) { c.Grace.Close = 0 }},
		{"an empty object changes nothing", `{"grace":{},"statuses":{"busy":{}}}`, func(c *config) {}},
		{"a map entry merges", `{"statuses":{"busy":{"color":"blue"}}}`, func(c *config) {
			c.Statuses["busy"] = status{Color: "blue", Order: 2, Labels: map[string]string{"de": "besetzt"}}
		}},
		{"a map inside an entry merges", `{"statuses":{"busy":{"labels":{"en":"busy"}}}}`, func(c *config) {
			c.Statuses["busy"].Labels["en"] = "busy"
		}},
		{"a map entry is added", `{"statuses":{"lunch":{"order":3}}}`, func(c *config) {
			c.Statuses["lunch"] = status{Order: 3}
		}},
		{"a nil map is made", `{"limits":{"a":"1m30s"},"nested":{"x":{"y":1}}}`, func(c *config) {
			c.Limits = map[string]time.Duration{"a": 90 * time.Second}
			c.Nested = map[string]map[string]int{"x": {"y": 1}}
		}},
		{"an empty map is made", `{"limits":{}}`, func(c *config) { c.Limits = map[string]time.Duration{} }},
		{"a list replaces", `{"idle":[{"after":"10m"}]}`, func(c *config) {
			c.Idle = []stage{{After: 10 * time.Minute}}
		}},
		{"a list is emptied", `{"idle":[],"tags":[]}`, func(c *config) { c.Idle, c.Tags = []stage{}, []string{} }},
		{"lists in lists", `{"grid":[["a"],[]],"waits":["1s"],"groups":[{"a":1}]}`, func(c *config) {
			c.Grid, c.Waits = [][]string{{"a"}, {}}, []time.Duration{time.Second}
			c.Groups = []map[string]int{{"a": 1}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, want := sample(), sample()
			tt.change(&want)
			unknown, err := conf.Decode([]byte(tt.json), &got)
			require.NoError(t, err)
			require.Empty(t, unknown)
			require.Equal(t, want, got)
		})
	}
}

func paths(unknown []conf.Unknown) (list []string) {
	for _, u := range unknown {
		list = append(list, u.Path)
	}
	return list
}

func TestDecodeUnknown(t *testing.T) {
	t.Parallel()
	c := sample()
	unknown, err := conf.Decode([]byte(`{
		"zoo": null, "Name": 1, "dashed": "", "-": 1, "Untagged": "", "hidden": "", "a.b": {"c": [1, {"d": null}]}, "": 0,
		"statuses": {"on call": {"x": 1}, "busy": {"y\n": 1}},
		"idle": [{"after": "1s"}, {"zoo": 1, "steps": [{"zoo": 2}]}],
		"name": "kept", "grace": {"zoo": 1}}`), &c)
	require.NoError(t, err)
	require.Equal(t, []string{
		"-", "Name", "Untagged", `[""]`, `["a.b"]`, "dashed", "grace.zoo", "hidden", "idle[1].steps[0].zoo", "idle[1].zoo",
		`statuses.busy["y\n"]`, `statuses["on call"].x`, "zoo",
	}, paths(unknown))
	require.Contains(t, unknown, conf.Unknown{Path: "grace.zoo", Allowed: []string{"close"}})
	require.Equal(t, "kept", c.Name, "the rest is read")
	require.Equal(t, "u", c.Untagged)
}

func TestDecodeFaults(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }
	long := strings.Repeat("k", 257)
	for _, tt := range []struct {
		name string
		json string
		want string
	}{
		{"duration as number", `{"idle":[{"after":7}]}`, `idle[0].after: want a duration such as "5m", got 7`},
		{"duration without unit", `{"grace":{"close":"5"}}`, `grace.close: want a duration such as "5m", got "5"`},
		{"duration too long", `{"grace":{"close":"9999999h"}}`, `grace.close: want a duration such as "5m", got "9999999h"`},
		{"string", `{"name":7}`, `name: want a string, got 7`},
		{"named string", `{"statuses":{"a b":{"color":true}}}`, `statuses["a b"].color: want a string, got true`},
		{"bool", `{"active":"yes"}`, `active: want true or false, got "yes"`},
		{"whole number", `{"level":1.5}`, `level: want a whole number (int8), got 1.5`},
		{"whole number out of range", `{"level":128}`, `level: want a whole number (int8), got 128`},
		{"whole number as string", `{"level":"1"}`, `level: want a whole number (int8), got "1"`},
		{"negative port", `{"port":-1}`, `port: want a whole number (uint16), got -1`},
		{"number", `{"rate":"fast"}`, `rate: want a finite number, got "fast"`},
		{"number out of range", `{"rate":1e999}`, `rate: want a finite number, got 1e999`},
		{"object for a list", `{"tags":{"a":1}}`, `tags: want a list, got an object`},
		{"list for an object", `{"grace":[1]}`, `grace: want an object, got a list`},
		{"list for a map", `{"statuses":[]}`, `statuses: want an object, got a list`},
		{"scalar for a map", `{"statuses":"x"}`, `statuses: want an object, got "x"`},
		{"object for a scalar", `{"name":{"a":null}}`, `name: want a string, got an object`},
		{"list for a scalar", `{"name":[null]}`, `name: want a string, got a list`},
		{"null", `{"name":null}`, `name: must not be null, want a string`},
		{"null element", `{"waits":["1s",null]}`, `waits[1]: must not be null, want a duration such as "5m"`},
		{"null entry", `{"statuses":{"busy":null}}`, `statuses.busy: must not be null, want an object`},
		{"null root", `null`, `conf: must not be null, want an object`},
		{"list root", `[1]`, `conf: want an object, got a list`},
		{"scalar root", `7`, `conf: want an object, got 7`},
		{"twice", `{"name":"a","name":"b"}`, `name: given twice in one object, want it once`},
		{"twice in a map", `{"statuses":{"a":{},"\u0061":{}}}`, `statuses.a: given twice in one object, want it once`},
		{"twice below an unknown key", `{"x":[{"y":1,"y":2}]}`, `x[0].y: given twice in one object, want it once`},
		{"twice below a fault", `{"name":{"y":1,"y":2}}`,
			"name: want a string, got an object\nname.y: given twice in one object, want it once"},
		{"long key", `{"statuses":{"` + long + `":{"color":1}}}`,
			`statuses["` + long[:256] + `"]: want a key of at most 256 bytes, got 257`},
		{"long text", `{"active":"` + long + `"}`, `active: want true or false, got "` + long[:40] + `"`},
		{"long number", `{"active":` + strings.Repeat("1", 50) + `}`, `active: want true or false, got ` + strings.Repeat("1", 40)},
		{"too deep", `{"x":` + deep(32) + `}`, "x" + strings.Repeat("[0]", 31) + `: nested deeper than 32 levels`},
		{"faults below are not reported", `{"x":` + deep(31)[:31] + `{"a":1,"a":2}` + deep(31)[31:] + `}`,
			"x" + strings.Repeat("[0]", 31) + `: nested deeper than 32 levels`},
		{"far too deep", deep(20000), `conf: line 1, column 10001: invalid character '[' exceeded max depth`},
		{"nothing", ``, `conf: line 1, column 1: unexpected end of JSON input`},
		{"cut off", "{\"name\":\n \"a\"", `conf: line 2, column 4: unexpected end of JSON input`},
		{"not JSON", "{\n  name: 1}", `conf: line 2, column 3: invalid character 'n' looking for beginning of object key string`},
		{"trailing comma", `{"tags":["a",]}`, `conf: line 1, column 14: invalid character ']' looking for beginning of value`},
		{"trailing data", "{}\n{}", `conf: line 2, column 1: invalid character '{' after top-level value`},
		{"not UTF-8", "{\"name\":\"\xff\"}", `conf: want UTF-8 text, got other bytes`},
		{"too large", `{}` + strings.Repeat(" ", 1<<20), `conf: want at most 1048576 bytes, got 1048578`},
		{"all at once, in the order of the text",
			`{"port":-1,"idle":[{"after":7,"on":null},{"on":["a",2]}],"name":false}`,
			"port: want a whole number (uint16), got -1\n" +
				"idle[0].after: want a duration such as \"5m\", got 7\n" +
				"idle[0].on: must not be null, want a list\n" +
				"idle[1].on[1]: want a string, got 2\n" +
				"name: want a string, got false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := sample()
			_, err := conf.Decode([]byte(tt.json), &c)
			require.EqualError(t, err, tt.want)
			require.Equal(t, sample(), c, "unchanged")
		})
	}
}

func TestDecodeLeavesTargetOnFault(t *testing.T) {
	t.Parallel()
	c := sample()
	unknown, err := conf.Decode([]byte(`{"name":"x","idle":[],"statuses":{"busy":{"labels":{"de":"x"}},"new":{}},
		"grace":{"close":"9s"},"extra":1,"port":"x"}`), &c)
	require.EqualError(t, err, `port: want a whole number (uint16), got "x"`)
	require.Equal(t, []string{"extra"}, paths(unknown), "reported in spite of the fault")
	require.Equal(t, sample(), c)
}

func TestDecodeLimits(t *testing.T) {
	t.Parallel()
	var c config
	atLimit := `{"x":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`
	unknown, err := conf.Decode([]byte(atLimit), &c)
	require.NoError(t, err, "32 levels")
	require.Equal(t, []string{"x"}, paths(unknown))
	_, err = conf.Decode([]byte(`{}`+strings.Repeat(" ", 1<<20-2)), &c)
	require.NoError(t, err, "1 MiB")
	_, err = conf.Decode([]byte(`{"limits":{"`+strings.Repeat("k", 256)+`":"1s"}}`), &c)
	require.NoError(t, err, "a key of 256 bytes")

	many := func(n int) []byte { return []byte(`{"tags":[` + strings.Repeat("1,", n-1) + `1]}`) }
	_, err = conf.Decode(many(100), &c)
	require.Equal(t, 100, strings.Count(err.Error(), "want a string"))
	require.NotContains(t, err.Error(), "not listed")
	_, err = conf.Decode(many(1000), &c)
	require.Equal(t, 100, strings.Count(err.Error(), "want a string"))
	require.ErrorContains(t, err, "\nconf: faults not listed: 900")
}

func TestSet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		path, value string
		change      func(c *config)
	}{
		{"name", "x, y", func(c *config) { c.Name = "x, y" }},
		{"name", "", func(c *config) { c.Name = "" }},
		{"name", "none", func(c *config) { c.Name = "none" }},
		{"level", "-128", func(c *config) { c.Level = -128 }},
		{"port", "80", func(c *config) { c.Port = 80 }},
		{"rate", "2.5", func(c *config) { c.Rate = 2.5 }},
		{"grace.close", "1m30s", func(c *config) { c.Grace.Close = 90 * time.Second }},
		{"idle.0.after", "10m", func(c *config) { c.Idle[0].After = 10 * time.Minute }},
		{"idle.hard.after", "10m", func(c *config) { c.Idle[1].After = 10 * time.Minute }},
		{"idle.after", "10m", func(c *config) { c.Idle[0].After, c.Idle[1].After = 10*time.Minute, 10*time.Minute }},
		{"idle.on", "a,b", func(c *config) { c.Idle[0].On, c.Idle[1].On = []color{"a", "b"}, []color{"a", "b"} }},
		{"idle.hard.steps.wait", "2s", func(c *config) { c.Idle[1].Steps[0].Wait = 2 * time.Second }},
		{"idle.1.steps.0.wait", "2s", func(c *config) { c.Idle[1].Steps[0].Wait = 2 * time.Second }},
		{"idle.soft.on.1", "away", func(c *config) { c.Idle[0].On[1] = "away" }},
		{"idle.soft.id", "after", func(c *config) { c.Idle[0].ID = "after" }},
		{"tags", "a, b", func(c *config) { c.Tags = []string{"a", "b"} }},
		{"tags", "none", func(c *config) { c.Tags = []string{} }},
		{"idle", "none", func(c *config) { c.Idle = c.Idle[:0] }},
		{"waits", "1s,2m", func(c *config) { c.Waits = []time.Duration{time.Second, 2 * time.Minute} }},
		{"statuses.busy.color", "blue", func(c *config) {
			c.Statuses["busy"] = status{Color: "blue", Order: 2, Labels: map[string]string{"de": "besetzt"}}
		}},
		{"statuses.busy.labels.de", "weg", func(c *config) { c.Statuses["busy"].Labels["de"] = "weg" }},
		{"statuses.lunch.color", "blue", func(c *config) { c.Statuses["lunch"] = status{Color: "blue"} }},
		{"statuses.lunch.labels.de", "Pause", func(c *config) {
			c.Statuses["lunch"] = status{Labels: map[string]string{"de": "Pause"}}
		}},
		{"limits.a", "5s", func(c *config) { c.Limits = map[string]time.Duration{"a": 5 * time.Second} }},
		{"nested.a.b", "1", func(c *config) { c.Nested = map[string]map[string]int{"a": {"b": 1}} }},
	} {
		t.Run(tt.path+"="+tt.value, func(t *testing.T) {
			t.Parallel()
			got, want := sample(), sample()
			tt.change(&want)
			require.NoError(t, conf.Set(&got, tt.path, tt.value))
			require.Equal(t, want, got)
		})
	}
}

func TestSetBool(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"true": true, "yes": true, "false": false, "no": false} {
		c := config{Active: !want}
		require.NoError(t, conf.Set(&c, "active", value))
		require.Equal(t, want, c.Active, value)
	}
}

// The steps of a list are tried in a fixed order: index, id, key of all elements.
func TestSetListPrecedence(t *testing.T) {
	t.Parallel()
	c := config{Idle: []stage{{ID: "1"}, {ID: "7"}, {ID: "after"}}, Groups: []map[string]int{{}, nil}, Grid: [][]string{{"a"}, {"b"}}}
	require.NoError(t, conf.Set(&c, "idle.1.after", "1s"))
	require.Equal(t, time.Second, c.Idle[1].After, "an index before an id")
	require.Zero(t, c.Idle[0].After)
	require.NoError(t, conf.Set(&c, "idle.7.after", "2s"))
	require.Equal(t, 2*time.Second, c.Idle[1].After, "an id without such an index")
	require.NoError(t, conf.Set(&c, "idle.after.after", "3s"))
	require.Equal(t, 3*time.Second, c.Idle[2].After, "an id before a key")
	require.Equal(t, 2*time.Second, c.Idle[1].After)
	require.NoError(t, conf.Set(&c, "groups.x", "4"))
	require.Equal(t, []map[string]int{{"x": 4}, {"x": 4}}, c.Groups, "any key of maps")
	require.NoError(t, conf.Set(&c, "grid.1", "x,y"))
	require.Equal(t, [][]string{{"a"}, {"x", "y"}}, c.Grid)
}

func TestSetFaults(t *testing.T) {
	t.Parallel()
	const shape = "conf: want keys of 1 to 256 bytes joined by dots, such as idle.after, got "
	const stageKeys = "id, on, after, steps"
	for _, tt := range []struct {
		path, value, want string
	}{
		{"", "x", shape + `""`},
		{"idle..after", "x", shape + `"idle..after"`},
		{"idle.", "x", shape + `"idle."`},
		{"a\xff", "x", shape + `"a\xff"`},
		{strings.Repeat("k", 257), "x", shape + `"` + strings.Repeat("k", 40) + `"`},
		{"name", "\xff", `name: want UTF-8 text, got "\xff"`},
		{"tags", "a,\xff", `tags: want UTF-8 text, got "a,\xff"`},
		{"active", "on", `active: want true or false, got "on"`},
		{"active", "True", `active: want true or false, got "True"`},
		{"level", "128", `level: want a whole number (int8), got "128"`},
		{"port", "-1", `port: want a whole number (uint16), got "-1"`},
		{"rate", "NaN", `rate: want a finite number, got "NaN"`},
		{"rate", "-Inf", `rate: want a finite number, got "-Inf"`},
		{"rate", "1e999", `rate: want a finite number, got "1e999"`},
		{"idle.0.after", "10", `idle.0.after: want a duration such as "5m", got "10"`},
		{"idle.after", "soon", `idle.after: want a duration such as "5m", got "soon"`},
		{"tags", "", `tags: want "none" or a list separated by commas, each a string, got ""`},
		{"tags", "a,,b", `tags: want "none" or a list separated by commas, each a string, got "a,,b"`},
		{"waits", "1s,2", `waits: want "none" or a list separated by commas, each a duration such as "5m", got "1s,2"`},
		{"zoo", "x", "zoo: unknown key, allowed: name, active, level, port, rate, idle, statuses, grace, tags, waits, " +
			"limits, nested, groups, grid, note"},
		{"Untagged.x", "x", "Untagged: unknown key, allowed: name, active, level, port, rate, idle, statuses, grace, tags, waits, " +
			"limits, nested, groups, grid, note"},
		{"grace.zoo", "x", "grace.zoo: unknown key, allowed: close"},
		{"statuses.busy.zoo", "x", "statuses.busy.zoo: unknown key, allowed: color, order, labels"},
		{"statuses.a b.zoo", "x", `statuses["a b"].zoo: unknown key, allowed: color, order, labels`},
		{"name.zoo", "x", "name.zoo: unknown key, name is a string and has no keys"},
		{"idle.zoo", "x", "idle.zoo: unknown key, allowed: an index below 2, soft, hard, " + stageKeys},
		{"idle.2.after", "1s", `idle.2: unknown key, allowed: an index below 2, soft, hard, ` + stageKeys},
		{"idle.0.zoo", "x", "idle.0.zoo: unknown key, allowed: " + stageKeys},
		{"idle.soft.on.2", "x", "idle.soft.on.2: unknown key, allowed: an index below 2"},
		{"idle.soft.on.online", "x", "idle.soft.on.online: unknown key, allowed: an index below 2"},
		{"idle.soft.steps.0.wait", "1s", "idle.soft.steps: the list has no elements"},
		{"idle.steps.wait", "1s", "idle.steps: the list has no elements"},
		{"tags.0", "x", "tags: the list has no elements"},
		{"idle", "x", `idle: want "none", or go on with: an index below 2, soft, hard, ` + stageKeys},
		{"idle.soft", "x", "idle.soft: an object cannot be set as a whole, go on with: " + stageKeys},
		{"grid", "x", `grid: want "none", or go on with: an index below 0, an index below 0`},
		{"grace", "x", "grace: an object cannot be set as a whole, go on with: close"},
		{"statuses", "x", "statuses: an object cannot be set as a whole, go on with: any key"},
		{"statuses.lunch", "x", "statuses.lunch: an object cannot be set as a whole, go on with: color, order, labels"},
	} {
		t.Run(tt.path+"="+tt.value, func(t *testing.T) {
			t.Parallel()
			c := sample()
			require.EqualError(t, conf.Set(&c, tt.path, tt.value), tt.want)
			require.Equal(t, sample(), c, "unchanged")
		})
	}
}

func TestSetLeavesTargetOnFault(t *testing.T) {
	t.Parallel()
	c := config{Idle: []stage{{Steps: []step{{Wait: 1}}}, {}}}
	require.EqualError(t, conf.Set(&c, "idle.steps.wait", "5s"), "idle.steps: the list has no elements")
	require.Equal(t, time.Duration(1), c.Idle[0].Steps[0].Wait, "the first element was fine, and still is as before")
}

// The type is built at run time, since go vet refuses such a struct in source.
func TestUnexportedFieldWithTag(t *testing.T) {
	t.Parallel()
	c := reflect.New(reflect.StructOf([]reflect.StructField{
		{Name: "A", Type: reflect.TypeFor[int](), Tag: `json:"a"`},
		{Name: "b", PkgPath: "conf_test", Type: reflect.TypeFor[int](), Tag: `json:"b"`},
	})).Interface()
	unknown, err := conf.Decode([]byte(`{"a":1,"b":2}`), c)
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, paths(unknown))
	require.EqualError(t, conf.Set(c, "b", "2"), "b: unknown key, allowed: a")
	got, err := conf.Encode(c)
	require.NoError(t, err)
	require.Equal(t, "{\n  \"a\": 1\n}\n", string(got))
}

func TestClone(t *testing.T) {
	t.Parallel()
	c := sample()
	c.Tags, c.Grid = []string{}, [][]string{{"a"}}
	c.Nested = map[string]map[string]int{"a": {"b": 1}}
	twin := conf.Clone(c)
	require.Equal(t, c, twin)
	require.Nil(t, twin.Waits, "nil stays nil")
	require.NotNil(t, twin.Tags, "empty stays empty")

	twin.Idle[0].On[0] = "x"
	twin.Idle[1].Steps[0].Wait = 0
	twin.Statuses["busy"].Labels["de"] = "x"
	twin.Nested["a"]["b"] = 2
	twin.Grid[0][0] = "x"
	delete(twin.Statuses, "online")
	require.NotEqual(t, c, twin)
	want := sample()
	want.Tags, want.Grid = []string{}, [][]string{{"a"}}
	want.Nested = map[string]map[string]int{"a": {"b": 1}}
	require.Equal(t, want, c)

	p := &config{Tags: []string{"a"}}
	q := conf.Clone(p)
	q.Tags[0] = "b"
	require.Equal(t, "a", p.Tags[0], "a pointer is followed")
	require.Nil(t, conf.Clone[*config](nil))
	require.Nil(t, conf.Clone[any](nil))
	require.Equal(t, 7, conf.Clone(7))
}

// normal replaces empty lists and maps by nil. Decode keeps them apart, but Encode
// writes both in the same way.
func normal(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				normal(f)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			normal(v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			elem := reflect.New(v.Type().Elem()).Elem()
			elem.Set(v.MapIndex(k))
			normal(elem)
			v.SetMapIndex(k, elem)
		}
	default:
		return
	}
	if v.Kind() != reflect.Struct && v.Len() == 0 {
		v.SetZero()
	}
}

func FuzzDecode(f *testing.F) {
	full, err := conf.Encode(sample())
	require.NoError(f, err)
	f.Add(full)
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"name":null}`, `{"name":"a","name":"b"}`, `{} {}`, `{"x":[[[]]]}`,
		`{"name":"\ud800<&>","rate":-0.0,"level":-128,"waits":["1µs","-1h0m1s","0"]}`,
		`{"limits":{"":"1s","a.b":"1h"},"nested":{"x":{}},"groups":[{"a":1},{}],"grid":[[],["a"]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, second config
		if _, err := conf.Decode(data, &first); err != nil {
			require.Equal(t, config{}, first)
			return
		}
		written, err := conf.Encode(first)
		require.NoError(t, err)
		if len(written) > 1<<20 {
			return // indentation made it longer than the limit
		}
		unknown, err := conf.Decode(written, &second)
		require.NoError(t, err)
		require.Empty(t, unknown)
		again, err := conf.Encode(second)
		require.NoError(t, err)
		require.Equal(t, string(written), string(again))
		normal(reflect.ValueOf(&first).Elem())
		normal(reflect.ValueOf(&second).Elem())
		require.Equal(t, first, second)
	})
}
