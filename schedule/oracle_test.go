package schedule_test

import (
	"archive/zip"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/schedule"
)

// The oracle does not use intervals. It takes the time that a clock shows at
// one instant, and looks up whether the plan has that minute of that date.
func openByTheClock(p *schedule.Plan, shown time.Time) bool {
	hour, m, _ := shown.Clock()
	minute := schedule.TimeOfDay(hour*60 + m)
	today, exception := planned(p, shown, 0)
	for _, s := range today {
		if s.From <= minute && (minute < s.To || s.To <= s.From) {
			return true
		}
	}
	if exception {
		return false
	}
	yesterday, _ := planned(p, shown, -1)
	for _, s := range yesterday {
		if s.To <= s.From && minute < s.To {
			return true
		}
	}
	return false
}

// planned returns the hours of the shown date, or of a date some days from it.
func planned(p *schedule.Plan, shown time.Time, days int) (hours schedule.Day, exception bool) {
	if len(p.Exceptions) > 0 {
		y, m, d := shown.Date()
		y, m, d = time.Date(y, m, d+days, 12, 0, 0, 0, time.UTC).Date()
		for _, e := range slices.Backward(p.Exceptions) {
			if within(e.Date, e.To, schedule.Date{Year: y, Month: m, Day: d}) {
				return e.Hours, true
			}
		}
	}
	return p.Week[(int(shown.Weekday())+days+7)%7], false
}

// within reports whether an exception from one date to another is of a date, by
// comparing what calendars show. Without a year the dates of each year count.
func within(from, to, date schedule.Date) bool {
	if to == (schedule.Date{}) {
		to = from
	}
	shown := func(d schedule.Date) int { return d.Year*10_000 + int(d.Month)*100 + d.Day }
	if from.Year == 0 {
		date.Year = 0
	}
	if a, b := shown(from), shown(to); a > b { // over the end of the year
		return shown(date) >= a || shown(date) <= b
	}
	return shown(from) <= shown(date) && shown(date) <= shown(to)
}

// A place is a zone, with the names of zones whose clocks are set like its own.
type place struct {
	zone  *time.Location
	names []string
	sets  []set
}

// A set is an instant at which clocks are set, and by how many seconds.
type set struct {
	at int64
	by int
}

var from2020, to2041 = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(2041, 1, 1, 0, 0, 0, 0, time.UTC).Unix()

// places reads every zone that Go has, in the order of their names. Zones with
// the same clocks from 2020 to 2040 are one place.
var places = sync.OnceValues(readPlaces)

func allPlaces(t testing.TB) []*place {
	t.Helper()
	list, err := places()
	require.NoError(t, err)
	count := 0
	for _, p := range list {
		count += len(p.names)
	}
	require.Greater(t, count, 500, "zones")
	return list
}

func readPlaces() (list []*place, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	known := make(map[string]*place) // by the data, and by the sets of clocks
	for _, f := range archive.File {
		if f.FileInfo().IsDir() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		p := known[string(data)]
		if p == nil {
			zone, err := time.LoadLocationFromTZData(f.Name, data)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			sets := scan(zone)
			key := fmt.Sprint(offset(zone, from2020), sets)
			if p = known[key]; p == nil {
				p = &place{zone: zone, sets: sets}
				list = append(list, p)
			}
			known[key], known[string(data)] = p, p
		}
		p.names = append(p.names, f.Name)
	}
	slices.SortFunc(list, func(a, b *place) int { return cmp.Compare(a.names[0], b.names[0]) })
	return list, nil
}

func offset(zone *time.Location, unix int64) int {
	_, offset := time.Unix(unix, 0).In(zone).Zone()
	return offset
}

// scan compares the offsets of consecutive days. Where they differ, it finds
// the second of the change.
func scan(zone *time.Location) (sets []set) {
	const step = 86400
	for at := from2020; at < to2041; at += step {
		before, after := offset(zone, at), offset(zone, at+step)
		if before == after {
			continue
		}
		lo, hi := at, at+step
		for hi-lo > 1 {
			if mid := (lo + hi) / 2; offset(zone, mid) == before {
				lo = mid
			} else {
				hi = mid
			}
		}
		sets = append(sets, set{hi, after - before})
	}
	return sets
}

// repeated reports whether an instant lies in a time that clocks show twice.
func (p *place) repeated(unix int64) bool {
	i, found := slices.BinarySearchFunc(p.sets, unix, func(s set, at int64) int { return cmp.Compare(s.at, at) })
	for _, j := range []int{i - 1, i} {
		if j < 0 || j >= len(p.sets) || found && j < i {
			continue
		}
		if s := p.sets[j]; s.by < 0 && s.at+int64(s.by) <= unix && unix < s.at-int64(s.by) {
			return true
		}
	}
	return false
}

// compare compares schedule and oracle in each minute of a time. It returns the
// number of minutes, and of those with a difference. They may differ only in
// times that clocks show twice, where the schedule does not close and open
// again. Except for exceptions, which start with their date, it is open there.
func (p *place) compare(plan *schedule.Plan, from, to int64) (minutes, differing int, err error) {
	s, err := schedule.New(*plan, &schedule.Options{Location: p.zone})
	if err != nil {
		return 0, 0, err
	}
	var open []schedule.Interval
	for i := range s.Intervals(time.Unix(from, 0), time.Unix(to, 0)) {
		open = append(open, i)
	}
	for at := from; at < to; at += 60 {
		minutes++
		for len(open) > 0 && open[0].To.Unix() <= at {
			open = open[1:]
		}
		got := len(open) > 0 && open[0].From.Unix() <= at
		shown := time.Unix(at+int64(offset(p.zone, at)), 0).UTC() // the time on a clock there
		if want := openByTheClock(plan, shown); got != want {
			differing++
			if !p.repeated(at) || !got && len(plan.Exceptions) == 0 {
				return minutes, differing, fmt.Errorf("%s at %s: open %t, want %t by %q", p.names[0], time.Unix(at, 0).In(p.zone).Format(time.RFC3339), got, want, plan)
			}
		}
	}
	return minutes, differing, nil
}

// randomDay returns hours that begin and end at some of the given times of day,
// or at random times.
func randomDay(r *rand.Rand, near ...schedule.TimeOfDay) (day schedule.Day) {
	var times []schedule.TimeOfDay
	for range 2 * r.IntN(4) {
		at := schedule.TimeOfDay(r.IntN(24 * 60))
		if len(near) > 0 && r.IntN(3) > 0 {
			at = near[r.IntN(len(near))]
		}
		times = append(times, at)
	}
	slices.Sort(times)
	times = slices.Compact(times)
	for i := 0; i+1 < len(times); i += 2 {
		day = append(day, schedule.Span{From: times[i], To: times[i+1]})
	}
	switch r.IntN(5) {
	case 0: // to the end of the day
		if n := len(day); n > 0 {
			day[n-1].To = 24 * 60
		}
	case 1: // into the next one
		if n := len(day); n > 0 && day[n-1].From > 1 {
			day[n-1].To = 1 + schedule.TimeOfDay(r.IntN(int(day[n-1].From)-1))
		}
	case 2:
		day = schedule.Day{{From: 0, To: 24 * 60}}
	}
	return day
}

// randomPlan returns hours that often begin or end where a clock is set, and
// exceptions around a date.
func randomPlan(r *rand.Rand, around time.Time, near ...schedule.TimeOfDay) schedule.Plan {
	var p schedule.Plan
	for day := range p.Week {
		p.Week[day] = randomDay(r, near...)
	}
	if r.IntN(2) == 0 {
		return p
	}
	for range r.IntN(4) {
		e := randomDates(r, around)
		if r.IntN(2) == 0 {
			e.Hours = randomDay(r, near...)
		}
		p.Exceptions = append(p.Exceptions, e)
	}
	return p
}

// randomDates returns an exception around a date: of a date or of several, of one
// year or of each.
func randomDates(r *rand.Rand, around time.Time) (e schedule.Exception) {
	first := around.AddDate(0, 0, r.IntN(5)-2)
	last := first.AddDate(0, 0, r.IntN(4))
	if r.IntN(8) == 0 {
		last = first.AddDate(0, r.IntN(12), 0)
	}
	e.Date = schedule.Date{Year: first.Year(), Month: first.Month(), Day: first.Day()}
	if r.IntN(2) == 0 {
		e.To = schedule.Date{Year: last.Year(), Month: last.Month(), Day: last.Day()}
	}
	if r.IntN(2) == 0 {
		e.Date.Year, e.To.Year = 0, 0
	}
	return e
}

// near are the times of day at, between and around the times that clocks show
// before and after they are set.
func (s set) near(zone *time.Location) (times []schedule.TimeOfDay) {
	before := time.Unix(s.at-1, 0).In(zone).Add(time.Second)
	shown := before.Hour()*60 + before.Minute()
	for _, by := range []int{0, s.by / 60, s.by / 120, s.by / 180, s.by/60 + 15, -15, 15, s.by/60 - 15} {
		times = append(times, schedule.TimeOfDay(((shown+by)%1440+1440)%1440))
	}
	return times
}

// Schedule and oracle agree in the 48 hours around each instant at which clocks
// are set, in every zone, from 2020 to 2040.
func TestOracleWhereClocksAreSet(t *testing.T) {
	t.Parallel()
	var zones, sets, minutes, differing int
	for _, p := range allPlaces(t) {
		zones += len(p.names)
		for _, s := range p.sets {
			sets++
			r := rand.New(rand.NewPCG(uint64(s.at), uint64(sets)))
			for range 2 {
				plan := randomPlan(r, time.Unix(s.at, 0).In(p.zone), s.near(p.zone)...)
				n, d, err := p.compare(&plan, s.at-24*3600, s.at+24*3600)
				require.NoError(t, err)
				minutes, differing = minutes+n, differing+d
			}
		}
	}
	t.Logf("%d zones, clocks set %d times apart from those that are set alike: %d minutes, %d of them repeated ones and different", zones, sets, minutes, differing)
	require.Positive(t, differing, "nothing was opened or closed in a repeated hour")
}

// Schedule and oracle agree in a thousand random weeks.
func TestOracleInRandomWeeks(t *testing.T) {
	t.Parallel()
	all := allPlaces(t)
	for seed := range seeds.Range(t, 1000) {
		r := rand.New(rand.NewPCG(seed, 7))
		p := all[r.IntN(len(all))]
		from := (from2020 + r.Int64N(to2041-from2020-7*86400)) / 60 * 60
		if len(p.sets) > 0 && r.IntN(3) == 0 {
			from = p.sets[r.IntN(len(p.sets))].at - r.Int64N(7*1440)*60
		}
		plan := randomPlan(r, time.Unix(from+r.Int64N(7*86400), 0).In(p.zone))
		_, _, err := p.compare(&plan, from, from+7*86400)
		require.NoError(t, err, "week %d", seed)
	}
}
