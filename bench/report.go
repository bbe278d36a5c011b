package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// report is all figures of a run.
type report struct {
	Quick   bool      `json:"quick"`
	Machine machine   `json:"machine"`
	Results []*result `json:"results"`
	Goals   []verdict `json:"goals,omitempty"`
}

// machine describes the machine.
type machine struct {
	Go        string `json:"go"`
	OS        string `json:"os"`
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	Load      string `json:"load"` // at the end
}

// verdict is the result of one part of a goal.
type verdict struct {
	Goal     string   `json:"goal"`
	Title    string   `json:"title"`
	Level    level    `json:"level,omitempty"`
	What     string   `json:"what,omitempty"`
	Wanted   string   `json:"wanted,omitempty"`
	Measured *float64 `json:"measured,omitempty"`
	Unit     string   `json:"unit,omitempty"`
	Noisy    bool     `json:"noisy,omitempty"`
	Verdict  string   `json:"verdict"`
}

// The verdicts.
const (
	reached     = "reached"
	notReached  = "not reached"
	undecided   = "undecided" // within the limit, but noisy
	notMeasured = "not measured yet"
	notRun      = "not run"
	noGoal      = "no goal"
)

func (r *runner) report() *report {
	out := &report{Quick: r.quick, Machine: thisMachine(), Results: r.results}
	for _, g := range goals {
		if !r.wants([]string{g.id}) {
			continue
		}
		if g.later != "" {
			out.Goals = append(out.Goals, verdict{Goal: g.id, Title: g.title, What: g.later, Verdict: notMeasured})
		}
		for _, c := range g.checks {
			out.Goals = append(out.Goals, c.verdict(r, g))
		}
	}
	return out
}

func (c check) verdict(r *runner, g goal) verdict {
	v := verdict{Goal: g.id, Title: g.title, Level: c.level, What: c.what, Unit: c.unit}
	if c.level != inform {
		sign := "<="
		if c.least {
			sign = ">="
		}
		v.Wanted = strings.TrimSpace(sign + " " + short(c.limit) + " " + c.unit)
	}
	if c.figure == nil {
		v.Verdict = notMeasured
		return v
	}
	f := c.figure(r)
	if len(f.rounds) == 0 {
		v.Verdict = notRun
		return v
	}
	got := median(f.rounds)
	v.Measured, v.Noisy = &got, f.noisy
	switch {
	case c.level == inform:
		v.Verdict = noGoal
	case c.least && got < c.limit || !c.least && got > c.limit:
		v.Verdict = notReached
	case f.noisy:
		v.Verdict = undecided
	default:
		v.Verdict = reached
	}
	return v
}

func (rep *report) write(file string) error {
	data, err := json.MarshalIndent(rep, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

func (rep *report) print(to io.Writer) {
	m := rep.Machine
	fmt.Fprintf(to, "%s, %s, %s, %d cores, load %s\n", m.Go, m.OS, m.Processor, m.Cores, m.Load)
	fmt.Fprintln(to, "Medians of all rounds; \"x\" is how many times ours, round by round; \"spread\" is the worst round against the best.")
	if rep.Quick {
		fmt.Fprintln(to, "Quick: smaller sizes and few rounds. Only a full run decides.")
	}
	for _, res := range rep.Results {
		if res.ID == millionID {
			printMillion(to, res)
			continue
		}
		res.print(to)
	}
	if len(rep.Goals) == 0 {
		return
	}
	fmt.Fprintf(to, "\nGoals\n")
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	last := ""
	for _, v := range rep.Goals {
		name := ""
		if v.Goal != last {
			name, last = v.Goal+" "+v.Title, v.Goal
		}
		got := "-"
		if v.Measured != nil {
			got = strings.TrimSpace(short(*v.Measured) + " " + v.Unit)
		}
		verdict := v.Verdict
		if v.Noisy {
			verdict += ", noisy"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", name, v.Level, v.What, v.Wanted, got, verdict)
	}
	w.Flush()
	count := make(map[string]int)
	for _, v := range rep.Goals {
		count[strings.TrimSpace(string(v.Level)+" "+v.Verdict)]++
	}
	fmt.Fprintf(to, "\nmust: %d reached, %d undecided, %d not; stretch: %d reached, %d undecided, %d not; %d parts of goals not measured yet\n",
		count["must "+reached], count["must "+undecided], count["must "+notReached],
		count["stretch "+reached], count["stretch "+undecided], count["stretch "+notReached],
		count[notMeasured]+count["must "+notMeasured]+count["stretch "+notMeasured])
}

// print writes an experiment's table.
func (res *result) print(to io.Writer) {
	fmt.Fprintf(to, "\n%s\n", res.Title)
	longest := 0
	for _, c := range res.Cases {
		longest = max(longest, len(c.Name))
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "  %-*s  %-7s\t", longest, "case", "role")
	for _, col := range res.Columns {
		fmt.Fprintf(w, "%s\t", col.header)
		if col.ratio {
			fmt.Fprintf(w, "x\t")
		}
	}
	fmt.Fprintf(w, "spread\t\n")
	for _, c := range res.Cases {
		fmt.Fprintf(w, "  %-*s  %-7s\t", longest, c.Name, c.Role)
		if c.Missing != "" {
			fmt.Fprintf(w, " %s\n", c.Missing)
			continue
		}
		for _, col := range res.Columns {
			text := "-"
			if rounds := c.Rounds[col.metric]; len(rounds) > 0 {
				text = short(median(rounds))
			}
			fmt.Fprintf(w, "%s\t", text)
			if col.ratio {
				fmt.Fprintf(w, "%s\t", res.againstOurs(c, col.metric))
			}
		}
		fmt.Fprintf(w, "%.2f\t", c.Spread)
		if c.Noisy {
			fmt.Fprint(w, " noisy")
		}
		if c.Starved {
			fmt.Fprint(w, " one core only")
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// againstOurs is a metric as a multiple of ours, with the same number of
// goroutines if possible.
func (res *result) againstOurs(c *series, metric string) string {
	var own *series
	for _, o := range res.Cases {
		if o.Role == ours && (own == nil || strings.HasSuffix(c.Name, ", 2g") && o.Name == "ours, 2g") {
			own = o
		}
	}
	if own == nil || own == c {
		return ""
	}
	f := combined(func(v []float64) float64 { return v[0] / v[1] }, figure{rounds: c.Rounds[metric]}, figure{rounds: own.Rounds[metric]})
	if len(f.rounds) == 0 {
		return ""
	}
	return short(median(f.rounds))
}

// short writes a number with three significant digits, and separates thousands.
func short(v float64) string {
	digits := 0
	switch abs := max(v, -v); {
	case abs == 0 || abs >= 100:
	case abs >= 10:
		digits = 1
	case abs >= 1:
		digits = 2
	case abs >= 0.01:
		digits = 3
	default:
		digits = 5
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if digits > 0 {
		return strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return thousands(text)
}

func count(n int) string { return thousands(strconv.Itoa(n)) }

func thousands(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var groups []string
	for len(digits) > 3 {
		groups = append(groups, digits[len(digits)-3:])
		digits = digits[:len(digits)-3]
	}
	groups = append(groups, digits)
	slices.Reverse(groups)
	return sign + strings.Join(groups, ",")
}

func thisMachine() machine {
	m := machine{Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Processor: "unknown processor", Load: "unknown"}
	info, _ := os.ReadFile("/proc/cpuinfo") // without it the report shows unknown
	for line := range strings.Lines(string(info)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			m.Processor = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
			break
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	if first, _, ok := strings.Cut(string(load), " "); ok {
		m.Load = cmp.Or(first, m.Load)
	}
	return m
}
