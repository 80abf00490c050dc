package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Help that was asked for is no failure, and names every command.
func TestHelpNamesTheCommands(t *testing.T) {
	for _, args := range []string{"-h", "--help", "help", "run -h", "check -h", "controls -h"} {
		t.Run(args, func(t *testing.T) {
			status, out := told(t, strings.Fields(args)...)
			if status != 0 {
				t.Errorf("exit status: got %d, want 0", status)
			}
			for _, want := range []string{"soak run", "soak check", "soak controls", "-duration", "-seed"} {
				if !strings.Contains(out, want) {
					t.Errorf("got\n%s\nwant %q in it", out, want)
				}
			}
		})
	}
}

func TestWhatIsNoCommandFails(t *testing.T) {
	for args, want := range map[string]string{
		"chek": "there are run, check and controls", "-sed 1": "-sed", "check": "check which history?", "check -short": "-short",
	} {
		t.Run(args, func(t *testing.T) {
			if status, out := told(t, strings.Fields(args)...); status != 1 || !strings.Contains(out, want) {
				t.Errorf("got %d and\n%s\nwant 1 and %q in it", status, out, want)
			}
		})
	}
}

// told is the exit status of a command line, and what it writes.
func told(t *testing.T, args ...string) (status int, output string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = file, file
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	status = command(args)
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return status, string(text)
}
