package main

import (
	"net"
	"testing"
)

func TestEstablishedConnectionsAreCounted(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	want := func(n int) {
		t.Helper()
		if got := established(listener.Addr().String()); got != n {
			t.Errorf("got %d connections, want %d", got, n)
		}
	}
	want(0)
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	want(1)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	want(0)
}
