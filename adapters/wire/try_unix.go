//go:build unix

package wire

import "syscall"

const canTry = true

// tryWrite writes as much as a socket takes at once. Sockets of package net do
// not block.
func tryWrite(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err := syscall.Write(int(fd), p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, nil
		}
		return max(n, 0), err
	}
}
