package main

import "context"

type outcome struct {
	Name   string
	Caught bool
}

func runControls(ctx context.Context, s settings) ([]outcome, error) { return nil, nil }
func onlyControls(ctx context.Context, args []string) error          { return nil }
