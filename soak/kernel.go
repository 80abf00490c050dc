package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// established counts the connections to an address of this machine whose client has not
// closed them.
func established(addr string) (n int) {
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0
	}
	const connected = "01" // TCP_ESTABLISHED
	remote := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line) // number, local address, remote address, state
		if len(fields) > 3 && strings.HasSuffix(fields[2], remote) && fields[3] == connected {
			n++
		}
	}
	return n
}
