package svg

import (
	"math"
	"slices"
	"strconv"
)

// Scale maps values to an axis from 0 to 1.
type Scale struct {
	Low, High float64
	Log       bool
	Marks     []float64
}

// At returns where a value lies on the axis. On a logarithmic scale a value below
// Low lies at 0.
func (s Scale) At(v float64) float64 {
	if s.Log {
		return math.Log(max(v, s.Low)/s.Low) / math.Log(s.High/s.Low)
	}
	return (v - s.Low) / (s.High - s.Low)
}

// Linear returns a scale from 0 to a round number that is at least most.
func Linear(most float64) Scale {
	most = max(most, 1)
	step := Round(most/4, 1)
	return marked(step*math.Ceil(most/step), step)
}

// LinearTo returns a scale from 0 to exactly most, which is above 0.
func LinearTo(most float64) Scale { return marked(most, Round(most/12, 1)) }

// marked returns a scale from 0 with a mark at each multiple of a step.
func marked(high, step float64) Scale {
	s := Scale{High: high}
	for i := 0; float64(i)*step <= high*1.0001; i++ {
		s.Marks = append(s.Marks, float64(i)*step)
	}
	return s
}

// Powers returns a logarithmic scale over the whole powers of ten around two
// values above 0.
func Powers(least, most float64) Scale {
	from, to := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	if to <= from {
		to = from + 1
	}
	s := Scale{Low: math.Pow(10, from), High: math.Pow(10, to), Log: true}
	for e := from; e <= to; e++ {
		s.Marks = append(s.Marks, math.Pow(10, e))
	}
	return s
}

// Rounded returns a logarithmic scale around two values above 0. Its ends begin
// with 1, 2 or 5. It covers a decade at least, so that a small change looks small.
func Rounded(least, most float64) Scale {
	low, high := Round(least, -1), Round(most, 1)
	for high/low < 9.99 {
		low = Round(low*0.99, -1)
		if high/low < 9.99 {
			high = Round(high*1.01, 1)
		}
	}
	return Scale{Low: low, High: high, Log: true, Marks: Marks(low, high, 6)}
}

// Marks returns the numbers of a range that begin with 1, 2 or 5. If these are
// more than a few, it returns only the numbers that begin with 1.
func Marks(low, high float64, few int) (list []float64) {
	for v := Round(low*(1-1e-9), 1); v <= high*(1+1e-9); v = Round(v*1.01, 1) {
		list = append(list, v)
	}
	if len(list) > few {
		list = slices.DeleteFunc(list, func(v float64) bool {
			return math.Abs(math.Log10(v)-math.Round(math.Log10(v))) > 1e-6
		})
	}
	return list
}

// Round returns the next number that begins with 1, 2 or 5: downwards if the
// direction is negative, otherwise upwards.
func Round(v float64, direction int) float64 {
	base := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	round := base
	for _, next := range []float64{base, 2 * base, 5 * base, 10 * base} {
		if direction < 0 && next > v*(1+1e-9) {
			return round
		}
		round = next
		if direction >= 0 && next >= v*(1-1e-9) {
			break
		}
	}
	return round
}

// Number returns a number with three significant digits. Thousands end in k,
// millions in M.
func Number(v float64) string {
	unit := ""
	switch {
	case v >= 1e6:
		v, unit = v/1e6, "M"
	case v >= 1e3:
		v, unit = v/1e3, "k"
	}
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64) // FormatFloat wrote it
	return strconv.FormatFloat(v, 'f', -1, 64) + unit
}
