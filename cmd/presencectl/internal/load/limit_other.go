//go:build !unix

package load

// maxFiles is how many files this process may have open, or 0 if that is not
// known.
func maxFiles() uint64 { return 0 }
