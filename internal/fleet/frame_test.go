package fleet

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFrames(t *testing.T) {
	for _, length := range []int{0, 1, 125, 126, 65_535, 65_536} {
		payload := bytes.Repeat([]byte("x"), length)
		served := AppendServer([]byte("before"), OpText, payload)[len("before"):]
		h, err := parseHeader(served)
		require.NoError(t, err)
		require.Equal(t, header{op: OpText, fin: true, length: length, size: len(served) - length}, h)
		for cut := range h.size {
			h, err := parseHeader(served[:cut])
			require.NoError(t, err)
			require.Zero(t, h.size, "a header that has not arrived as a whole")
		}

		sent := AppendClient(nil, OpPong, payload)
		require.Len(t, sent, len(served)+4)
		require.Equal(t, byte(0x80|OpPong), sent[0])
		require.NotZero(t, sent[1]&0x80, "clients mask")
		key, masked := sent[len(sent)-length-4:][:4], sent[len(sent)-length:]
		for i := range masked {
			require.Equal(t, payload[i], masked[i]^key[i&3])
		}
	}
}

func TestFramesThatNoServerMaySend(t *testing.T) {
	for want, data := range map[string][]byte{
		"reserved bits":      {0xc1, 0},
		"masked":             {0x81, 0x80, 1, 2, 3, 4},
		"unknown opcode 3":   {0x83, 0},
		"unknown opcode 11":  {0x8b, 0},
		"control frame":      {0x09, 0},
		"longer than 125":    {0x89, 126, 0, 126},
		"claims to be 18446": {0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		_, err := parseHeader(data)
		require.ErrorContains(t, err, want)
	}
}

func TestCloseFrames(t *testing.T) {
	require.Equal(t, &ClosedError{CloseNone, ""}, parseClose(nil))
	closed := parseClose(append(closePayload(CloseGoingAway), "off"...))
	require.Equal(t, &ClosedError{CloseGoingAway, "off"}, closed)
	require.EqualError(t, closed, "1001 off")
	require.EqualError(t, &ClosedError{Code: CloseNormal}, "1000")
}

// The example is that of RFC 6455, section 1.3.
func TestAccept(t *testing.T) {
	require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", Accept("dGhlIHNhbXBsZSBub25jZQ=="))
}
