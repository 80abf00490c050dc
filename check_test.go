package holdfast_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// Check refuses what is older than 6.2, and takes a version that is not to be read for a new one.
func TestCheckOfOldVersions(t *testing.T) {
	t.Parallel()
	server := redistest.StartMiniredis(t)
	z := &hazard{T: t}
	version := &toldVersion{}
	rdb := server.Client(t)
	rdb.AddHook(version)
	c := z.newClient(rdb)
	for told, old := range map[string]bool{
		"2.8.24": true, "5.0.14": true, "6.0.16": true, "6.1.240": true,
		"6.2.0": false, "6.2.14": false, "6.10.0": false, "7.0.15": false, "8.2.1": false, "10.0.1": false, "255.255.255": false,
		"": false, "6": false, "6.x.1": false, "unstable": false,
	} {
		version.told = told
		err := c.Check(z.ctx())
		if !old {
			z.want("Check of version "+told, err, nil)
		} else if err == nil || !strings.Contains(err.Error(), "version "+told+" is too old") {
			z.Errorf("Check of version %s: got %v, want it to name the version", told, err)
		}
	}
	if len(server.Keys()) > 0 {
		z.Errorf("Check left %v", server.Keys())
	}
}

// toldVersion is a hook that has the server tell another version.
type toldVersion struct{ told string }

func (v *toldVersion) DialHook(next redis.DialHook) redis.DialHook { return next }
func (v *toldVersion) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (v *toldVersion) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if info, ok := cmd.(*redis.StringCmd); ok && cmd.Name() == "info" {
			info.SetVal("# Server\r\nredis_version:" + v.told + "\r\nrole:master\r\n")
		}
		return err
	}
}
