package schedule

import (
	"cmp"
	"slices"
)

// segment is a time of days with one exception, by its index in the plan.
type segment struct {
	from, to int64 // by the number of the day; to is included
	index    int
}

// segments returns for each day with exceptions that have a year the last of them.
func segments(exceptions []Exception) (list []segment) {
	var whole []segment
	var cuts []int64
	for i, e := range exceptions {
		if e.Date.Year == 0 {
			continue
		}
		s := segment{from: e.Date.number(), to: e.Date.number(), index: i}
		if e.To != (Date{}) {
			s.to = e.To.number()
		}
		whole = append(whole, s)
		cuts = append(cuts, s.from, s.to+1)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	// The pieces between two cuts are taken from the last exception to the first. skip
	// leads over those that are taken, so that each is looked at once.
	taken, skip := make([]int, len(cuts)), make([]int, len(cuts))
	for i := range skip {
		skip[i] = i
	}
	free := func(i int) int {
		for skip[i] != i {
			skip[i] = skip[skip[i]]
			i = skip[i]
		}
		return i
	}
	for _, s := range slices.Backward(whole) {
		first, _ := slices.BinarySearch(cuts, s.from)
		for i := free(first); cuts[i] <= s.to; i = free(i) { // ends before the last cut, which is after every day
			taken[i], skip[i] = s.index+1, i+1
		}
	}
	for i, index := range taken {
		if index > 0 {
			list = append(list, segment{cuts[i], cuts[i+1] - 1, index - 1})
		}
	}
	return list
}

// yearly has the last exception of each month and day without a year, by its index
// and one.
type yearly [12 * 31]int

func placeInYear(d Date) int { return (int(d.Month)-1)*31 + d.Day - 1 }

func years(exceptions []Exception) *yearly {
	var y *yearly
	for i, e := range exceptions {
		if e.Date.Year != 0 {
			continue
		}
		if y == nil {
			y = new(yearly)
		}
		last := e.Date
		if e.To != (Date{}) {
			last = e.To
		}
		for at := placeInYear(e.Date); ; at = (at + 1) % len(y) {
			y[at] = i + 1
			if at == placeInYear(last) {
				break
			}
		}
	}
	return y
}

// exception returns the index of the exception that decides on a day, or -1.
func (s *Schedule) exception(day int64) int {
	found := -1
	i, exact := slices.BinarySearchFunc(s.dates, day, func(x segment, day int64) int { return cmp.Compare(x.from, day) })
	if !exact {
		i--
	}
	if i >= 0 && day <= s.dates[i].to {
		found = s.dates[i].index
	}
	if s.yearly != nil {
		found = max(found, s.yearly[placeInYear(dateOf(day))]-1)
	}
	return found
}
