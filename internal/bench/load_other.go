//go:build !linux

package main

import (
	"context"
	"errors"
)

func (generator) run(context.Context) (*loaded, error) {
	return nil, errors.New("the load generator works on Linux only: it needs epoll")
}
