package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzMessages passes arbitrary bodies to the decoders. Every message gets an
// answer that can be sent.
func FuzzMessages(f *testing.F) {
	for _, text := range []string{
		`{"type":"hello","v":1,"conn":"c","login":true,"device":"web","idle":12.5,"visible":true}`,
		`{"type":"pong","seq":18446744073709551615,"idle":-1}`,
		`{"type":"claim","ref":"1","status":"busy","for":1e308,"reason":"\u0000","text":"\ud800"}`,
		`{"type":"watch","channel":{},"epoch":[7]}`, `[[[[`, `null{}`, ``, "\xff", " ", `[null,7,"[",{"ref":"` + strings.Repeat("r", 65) + `"}]`,
		`[` + strings.Repeat(`{},`, 16) + `{}]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, ok := split(body)
		if !ok {
			return
		}
		require.LessOrEqual(t, len(messages), maxPosted)
		for _, data := range messages {
			require.LessOrEqual(t, len(data), len(body))
			m, err := decode(data)
			require.LessOrEqual(t, len(m.Ref), maxRef)
			if err == nil {
				require.Contains(t, "{n", string(strings.TrimLeft(string(data), " \t\r\n")[0]), "only objects and null are messages, and null has no type")
				require.GreaterOrEqual(t, millis(m.For), millis(0))
				continue
			}
			told, err := json.Marshal(failure{Type: "error", V: Version, Ref: m.Ref, Code: faultOf(err).code, Message: faultOf(err).text})
			require.NoError(t, err)
			require.True(t, utf8.Valid(told))
		}
	})
}

// FuzzPong feeds arbitrary bodies to the quick reader of heartbeats. What it takes
// means the same to the decoder of messages.
func FuzzPong(f *testing.F) {
	for _, text := range []string{
		`{"idle":4000,"visible":true,"type":"pong","seq":12}`, `{"type":"pong","seq":1}`, `{"type":"pong"}`, `{"seq":1}`, `{}`, `{`, `}`, `,}`,
		`{"type":"pong","seq":1,"seq":2}`, `{"type":"pong","seq":01,"idle":0}`, `{"type":"pong","seq":18446744073709551616}`, `{"type":"pong","seq":1}}`,
		`{"type":"pong","visible":false,"visible":true}`, `{"idle":3155760000001,"type":"pong"}`, `{"seq":0,"type":"pong","seq":7}`, `{"idle":,"type":"pong"}`,
		`{"Type":"pong","seq":1}`, `{"idle":null,"idle":7,"type":"pong"}`, `{"idle":7,"idle":null,"type":"pong"}`, `{"type":"pong","seq":1,"ref":"q"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, ok := ParsePong(data)
		if !ok {
			return
		}
		m, err := decode(data)
		require.NoError(t, err, "%s", data)
		require.Equal(t, p, m.pong(), "%s", data)
		m.Seq, m.Idle, m.Visible = 0, nil, nil
		require.Equal(t, message{Type: typePong}, m, "%s", data)
	})
}

// FuzzPosition feeds arbitrary positions to what reads them. What it makes of
// them can be sent, and is read as the same.
func FuzzPosition(f *testing.F) {
	for _, s := range []string{"", "sales/mx2r.te1/7", "a//1,b/x/18446744073709551615", "///", "%zz/x/1", "a%2Cb~c/x/1", "\n/\r/0", "a/b/-1,,/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := ParsePosition(s)
		out := p.String()
		require.NotContains(t, out, "\n")
		require.NotContains(t, out, "\r")
		require.NotContains(t, out, " ")
		require.True(t, utf8.ValidString(out))
		require.LessOrEqual(t, len(out), 4*len(s)+4)
		require.Equal(t, p, ParsePosition(out))
	})
}

// FuzzSecret feeds arbitrary secrets to what checks them.
func FuzzSecret(f *testing.F) {
	h := &Server{key: [32]byte{1}}
	good := h.secret(connKey{conn: "tab"}, 1)
	for _, s := range []string{"", ".", good, good + "A", "A" + good, strings.ToUpper(good), good[:30] + "\n" + good[30:]} {
		f.Add(s, "tab")
	}
	f.Fuzz(func(t *testing.T, secret, conn string) {
		key, epoch, ok := h.verify(secret, conn)
		require.Equal(t, secret == good && conn == "tab", ok)
		if ok {
			require.Equal(t, connKey{conn: "tab"}, key)
			require.EqualValues(t, 1, epoch)
		}
	})
}
