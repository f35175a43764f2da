#!/usr/bin/env bash
# Starts a real Apache Kafka broker on loopback, or finds it running. Called by `make kafka-up` and by the tests.
#
# KAFKA_PORT (19092; the controller listens on the port after it) and KAFKA_DATA (.cache/kafka/data) choose another
# one beside it, KAFKA_PROPERTIES a file whose lines win over the properties below. Needs Java 17 and, the first time, Maven: 54 MB of jars from the registry that Maven is configured with.
set -euo pipefail
cd "$(dirname "$0")/../.."

PORT=${KAFKA_PORT:-19092}
DATA=$(realpath -m "${KAFKA_DATA:-.cache/kafka/data}")
LIBS=$PWD/.cache/kafka/libs
START_S_MAX=60

main() {
    mkdir -p .cache/kafka "$DATA"
    exec 9>"$DATA/up.lock"
    flock 9  # two at once: the second waits, then finds it running
    if running; then echo "kafka: already on 127.0.0.1:$PORT"; return; fi
    command -v java >/dev/null || fail "needs Java 17: on Debian or Ubuntu, apt-get install openjdk-17-jre-headless"
    fetch_jars
    configure
    start
    echo "kafka: 127.0.0.1:$PORT, data in $DATA, pid $(cat "$DATA/broker.pid")"
}

running() {
    [ -s "$DATA/broker.pid" ] && kill -0 "$(cat "$DATA/broker.pid")" 2>/dev/null && listening
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; }

# In a shell of its own, which ends with its lock: a broker that inherited that would make every other start wait.
fetch_jars() (
    exec 8>.cache/kafka/libs.lock
    flock 8
    [ ! -e "$LIBS/.complete" ] || return 0
    command -v mvn >/dev/null || fail "needs Maven once: on Debian or Ubuntu, apt-get install maven"
    echo "kafka: 54 MB of jars to download where no cache holds them"
    mvn -q -B -f tools/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$LIBS"
    touch "$LIBS/.complete"
)

configure() {
    [ ! -e "$DATA/server.properties" ] || grep -q "127.0.0.1:$PORT,\|127.0.0.1:$PORT\$" "$DATA/server.properties" \
        || fail "$DATA was made for another port"
    [ ! -e "$DATA/server.properties" ] || return 0
    cat >"$DATA/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$((PORT + 1))
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$((PORT + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$DATA/logs
auto.create.topics.enable=false
# One broker: every replica that there can be.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
# Small, so that the start takes seconds.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
# A position outlives 90 days of rest.
offsets.retention.minutes=129600
# Members of tests may die sooner than a cluster would let them.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
PROPERTIES
    [ -z "${KAFKA_PROPERTIES:-}" ] || cat "$KAFKA_PROPERTIES" >>"$DATA/server.properties"  # of two the later counts
    local id
    id=$(tool kafka.tools.StorageTool random-uuid)
    tool kafka.tools.StorageTool format --standalone -t "$id" -c "$DATA/server.properties" >/dev/null
}

start() {
    # -XX flags: a short start and little memory are worth more here than the last bit of throughput.
    setsid java -Xms128m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$LIBS/*" \
        kafka.Kafka "$DATA/server.properties" >"$DATA/broker.log" 2>&1 </dev/null 9>&- &
    echo $! >"$DATA/broker.pid"
    local tries=0
    until listening; do
        kill -0 "$(cat "$DATA/broker.pid")" 2>/dev/null || { tail -20 "$DATA/broker.log" >&2; fail "it ended at once"; }
        [ $((tries += 1)) -le $((START_S_MAX * 5)) ] || fail "does not listen after $START_S_MAX s; see $DATA/broker.log"
        sleep 0.2
    done
}

tool() { java -XX:TieredStopAtLevel=1 -cp "$LIBS/*" "$@" 2>/dev/null; }

fail() {
    echo "kafka: $*" >&2
    exit 1
}

main
