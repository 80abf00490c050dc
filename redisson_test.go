package holdfast_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// redisson is what a user of Redisson 4.7.0 may look for: the factories of its client,
// the methods of RLock and of the objects beside it, and the settings that concern locks.
var redisson = strings.Fields(`
	getLock getNonReentrantLock getFairLock getNonReentrantFairLock getSpinLock getFencedLock getReadWriteLock
	getMultiLock(locks…) getMultiLock(group,values) getRedLock getSemaphore getPermitExpirableSemaphore getCountDownLatch
	map.getLock map.getFairLock map.getReadWriteLock map.getSemaphore map.getPermitExpirableSemaphore map.getCountDownLatch
	CommonOptions

	lock() lock(lease,unit) lockInterruptibly tryLock() tryLock(wait,unit) tryLock(wait,lease,unit) unlock forceUnlock isLocked
	isHeldByCurrentThread isHeldByThread getHoldCount remainTimeToLive getName newCondition
	addListener(ExpiredObjectListener addListener(DeletedObjectListener removeListener
	lockAsync lockAsync(threadId) tryLockAsync unlockAsync forceUnlockAsync isLockedAsync isHeldByThreadAsync getHoldCountAsync
	remainTimeToLiveAsync

	readLock writeLock
	getToken lockAndGetToken tryLockAndGetToken
	acquire tryAcquire release releaseIfExists availablePermits drainPermits trySetPermits addPermits
	tryRelease acquiredPermits getPermits setPermits updateLeaseTime getLeaseTime
	trySetCount countDown getCount await

	lockWatchdogTimeout lockWatchdogBatchSize fairLockWaitTimeout checkLockSyncedSlaves slavesSyncTimeout timeout retryAttempts
	retryDelay connectTimeout pingConnectionInterval subscriptionTimeout subscriptionsPerConnection
	subscriptionConnectionPoolSize subscriptionConnectionMinimumIdleSize subscriptionMode shardedSubscriptionMode readMode
	useScriptCache keepPubSubOrder nameMapper commandMapper protocol codec connectionPoolSize database password
`)

// Whatever a user of Redisson looks for begins a row that tells what became of it.
func TestRedissonsMethodsAndSettingsAreOnThePage(t *testing.T) {
	text, err := os.ReadFile("docs/from-redisson.md")
	if err != nil {
		t.Fatal(err)
	}
	var cells []string // the first of each row, without spaces
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \| [^|]*[^| ] \| [^|]*\|$`).FindAllStringSubmatch(string(text), -1) {
		cells = append(cells, strings.ReplaceAll(row[1], " ", ""))
	}
	for _, name := range redisson {
		// As a whole word: "lock()" is not in "tryLock()", nor "timeout" in "connectTimeout".
		word := regexp.MustCompile("[`(.]" + regexp.QuoteMeta(name) + "[`(.…]")
		if !slices.ContainsFunc(cells, word.MatchString) {
			t.Errorf("docs/from-redisson.md: no row begins with %s", name)
		}
	}
}
