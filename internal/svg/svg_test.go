package svg_test

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/svg"
)

func TestScales(t *testing.T) {
	for _, tc := range []struct{ low, high, from, to float64 }{
		{3, 40, 2, 50},        // to figures that begin with 1, 2 or 5
		{100, 100, 20, 200},   // a decade at least
		{0.9, 1.1, 0.2, 2},    // around a small change
		{1, 1e6, 1, 1e6},      // as it is
		{0.002, 9, 0.002, 10}, // any size
	} {
		s := svg.Rounded(tc.low, tc.high)
		require.InEpsilon(t, tc.from, s.Low, 1e-9, "%v", tc)
		require.InEpsilon(t, tc.to, s.High, 1e-9, "%v", tc)
		require.InDelta(t, 0, s.At(s.Low), 1e-9)
		require.InDelta(t, 1, s.At(s.High), 1e-9)
	}
	require.InEpsilonSlice(t, []float64{2, 5, 10, 20}, svg.Marks(2, 20, 6), 1e-9)
	require.InEpsilonSlice(t, []float64{1, 10, 100, 1000}, svg.Marks(1, 1000, 6), 1e-9)

	s := svg.Powers(0.3, 70)
	require.InDelta(t, 0.5, svg.Powers(1, 100).At(10), 1e-9)
	require.Zero(t, s.At(0), "a value without a logarithm lies at the low end")
	require.InEpsilonSlice(t, []float64{0.1, 1, 10, 100}, s.Marks, 1e-9)
	require.Len(t, svg.Powers(10, 10).Marks, 2)

	require.Equal(t, svg.Scale{High: 40, Marks: []float64{0, 10, 20, 30, 40}}, svg.Linear(37.3))
	require.Equal(t, svg.Scale{High: 1, Marks: []float64{0, 0.5, 1}}, svg.Linear(0))
	require.Equal(t, svg.Scale{High: 23, Marks: []float64{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22}}, svg.LinearTo(23))
	require.InDelta(t, 0.5, svg.LinearTo(23).At(11.5), 1e-9)
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.00412: "0.00412", 0.25: "0.25", 12.34: "12.3", 500: "500", 1_000: "1k", 1_500: "1.5k", 30_000: "30k", 1e6: "1M", 2.5e9: "2500M"} {
		require.Equal(t, want, svg.Number(v))
	}
}

func TestShorten(t *testing.T) {
	require.Equal(t, "äöü", svg.Shorten("äöü", 3))
	require.Equal(t, "äö…", svg.Shorten("äöüß", 3))
}

// TestPicture: a picture is well formed with any text in it, and a curve has a gap
// at a missing value.
func TestPicture(t *testing.T) {
	var c svg.Canvas
	p := &svg.Plot{Left: 10, Top: 20, Width: 100, Height: 50, X: svg.LinearTo(10), Y: svg.Linear(4), Unit: " s", Grid: true}
	c.Axes(p)
	c.Text(1, 2, `fill="`+svg.Ink+`"`, "<a> & \"b\"\x01")
	c.Curve(p, []svg.Point{{X: 0, Y: 0}, {X: 5, Y: 2}, {X: 6, Y: math.NaN()}, {X: 10, Y: 4}}, svg.Red)
	c.Curve(p, []svg.Point{{X: 1, Y: math.NaN()}}, svg.Blue)
	picture := string(c.Document(200, 100))
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	require.Contains(t, picture, `viewBox="0 0 200 100"`)
	require.Contains(t, picture, `&lt;a&gt; &amp; &#34;b&#34;`)
	require.Contains(t, picture, `d="M10.0 70.0h0.1L60.0 45.0M110.0 20.0h0.1"`)
	require.Contains(t, picture, `>10 s</text>`)
	require.NotContains(t, picture, svg.Blue, "a curve without a value is not drawn")
}
