package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
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

// FuzzSession feeds lines to the sessions of an agent and of a visitor, with a pause
// after some. All that is written is an object with a type and valid text. A stream of
// a channel has no gap. An answer bears the ref of a question. No line harms another
// session.
func FuzzSession(f *testing.F) {
	for _, text := range []string{
		`{"type":"hello","v":1,"conn":"c","login":true}` + "\n" + `{"type":"watch","ref":"1","channel":"sales"}` + "\n" + `{"type":"claim","ref":"2","status":"busy","for":60000}`,
		`{"type":"hello","v":1}` + "\n\n" + `{"type":"watch","channel":"sales"}` + "\n" + `{"type":"pong","seq":1,"idle":0,"visible":true}` + "\n" + `{"type":"bye"}`,
		`{"type":"hello","v":1,"conn":"c","epoch":7,"secret":"x"}` + "\n" + `{"type":"release","ref":"r"}` + "\n" + `{"type":"unwatch","channel":"sales"}`,
		`{"type":"watch","channel":"sales","epoch":"e","seq":3}` + "\n" + `{"type":"request","ref":"a","status":"away"}` + "\n" + `{"type":"focus","channel":"sales"}`, "null\n[]\n{}\n\xff",
	} {
		f.Add([]byte(text), uint8(len(text)))
	}
	f.Fuzz(func(t *testing.T, body []byte, pauses uint8) {
		synctest.Test(t, func(t *testing.T) {
			sales, ann := presence.ChannelID("sales"), presence.ID("ann")
			tracker, h := serve(t, &presence.Options{}, Options{})
			require.NoError(t, tracker.AddMember(t.Context(), sales, ann))
			agent, agentTape := join(t, h, presence.Agent(ann), plain{streams: true}, nil)
			visitor, visitorTape := join(t, h, guest, plain{streams: true}, nil)
			other, otherTape := join(t, h, presence.Admin(presence.ID("other")), plain{streams: true}, nil)
			refs := map[string]bool{"": true}
			seqs := make(map[string]uint64)
			for i, line := range bytes.Split(body, []byte("\n")) {
				if i == 40 {
					break
				}
				if m, _ := decode(line); m.Ref != "" {
					refs[m.Ref] = true
				}
				agent.Receive(bytes.Clone(line))
				visitor.Receive(bytes.Clone(line))
				synctest.Wait()
				if pauses>>(i%8)&1 == 1 {
					time.Sleep(time.Duration(pauses) * 4 * time.Millisecond)
				}
				for name, lines := range map[string][]string{"agent": agentTape.take(), "visitor": visitorTape.take()} {
					for text := range strings.SplitSeq(strings.Join(lines, ""), "\n") {
						checkSent(t, name, text, refs, seqs)
					}
				}
			}
			other.Receive([]byte(`{"type":"nonsense","ref":"mine"}`))
			synctest.Wait()
			require.Contains(t, strings.Join(otherTape.take(), ""), `"ref":"mine"`, "the other session is served")
			require.LessOrEqual(t, h.Sessions(), 3)
			for _, tape := range []*tape{agentTape, visitorTape, otherTape} {
				_ = tape.Close()
			}
			synctest.Wait()
			require.Zero(t, h.Sessions())
		})
	})
}

// checkSent checks one line that a client was sent.
func checkSent(t *testing.T, name, text string, refs map[string]bool, seqs map[string]uint64) {
	t.Helper()
	if text == "" || text == "ping" || strings.HasPrefix(text, "close ") {
		return
	}
	var m struct {
		Type, Ref string
		Channel   any // an object or an id
		Epoch     any // a number of a connection, a word of a stream
		Seq       uint64
	}
	require.True(t, utf8.ValidString(text), "%q", text)
	require.NoError(t, json.Unmarshal([]byte(text), &m), "%q", text)
	require.NotEmpty(t, m.Type, "%q", text)
	require.True(t, refs[m.Ref], "%s was answered with a ref that no message had: %q", name, text)
	stream := fmt.Sprint(name, " ", m.Channel, " ", m.Epoch)
	switch m.Type {
	case "diff":
		require.Equal(t, seqs[stream]+1, m.Seq, "%q", text)
		seqs[stream] = m.Seq
	case "snapshot":
		seqs[stream] = m.Seq
	}
}
