package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a server of our own, without persistence, over a unix socket,
// which is the fastest connection.
type redisServer struct {
	*redis.Client
	dir    string
	server *exec.Cmd
}

// startRedis starts a server. It returns errNotAvailable if the program is not
// installed.
func startRedis() (*redisServer, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("%w: redis-server is not installed, bench/setup does that", errNotAvailable)
	}
	dir, err := os.MkdirTemp("", "bench-redis-")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "redis.sock")
	s := &redisServer{dir: dir}
	s.server = exec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", dir)
	if err := s.server.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.Client = redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := s.Ping(context.Background()).Err()
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("redis-server does not answer: %w", err), s.stop())
		}
	}
}

// stop ends the server and removes its files.
func (s *redisServer) stop() error {
	err := errors.Join(s.Close(), s.server.Process.Kill())
	_ = s.server.Wait() // the error reports the signal
	return errors.Join(err, os.RemoveAll(s.dir))
}

// redisBatch is the number of commands that are sent together.
const redisBatch = 100

// heartbeats stores the time of each user's heartbeat, as scores of a sorted
// set.
func (s *redisServer) heartbeats(ids []string) error {
	for len(ids) > 0 {
		batch := ids[:min(redisBatch, len(ids))]
		ids = ids[len(batch):]
		now := float64(time.Now().UnixMilli())
		_, err := s.Pipelined(context.Background(), func(p redis.Pipeliner) error {
			for _, id := range batch {
				p.ZAdd(context.Background(), "heard", redis.Z{Score: now, Member: id})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// expiring sets a key with a time to live for each user.
func (s *redisServer) expiring(ids []string) error {
	for len(ids) > 0 {
		batch := ids[:min(redisBatch, len(ids))]
		ids = ids[len(batch):]
		_, err := s.Pipelined(context.Background(), func(p redis.Pipeliner) error {
			for _, id := range batch {
				p.Set(context.Background(), id, connID, time.Hour)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// memory is the number of bytes that the server reports as used.
func (s *redisServer) memory() (float64, error) {
	info, err := s.Info(context.Background(), "memory").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(info) {
		if bytes, ok := strings.CutPrefix(line, "used_memory:"); ok {
			return strconv.ParseFloat(strings.TrimSpace(bytes), 64)
		}
	}
	return 0, errors.New("redis-server does not say how much memory it uses")
}
