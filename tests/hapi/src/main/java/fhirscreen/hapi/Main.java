package fhirscreen.hapi;

import ca.uhn.fhir.batch2.api.IJobMaintenanceService;
import ca.uhn.fhir.jpa.config.r4.JpaR4Config;
import ca.uhn.fhir.jpa.config.r5.JpaR5Config;
import java.io.IOException;
import java.io.PrintStream;
import java.net.InetSocketAddress;
import java.util.Optional;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.slf4j.LoggerFactory;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;

/**
 * Starts one HAPI FHIR JPA server on loopback: {@code Main R4|R5 [port]}, port 0 or none for a free one.
 *
 * <p>The first and only line on standard output is the base URL. The server ends when standard input is closed.
 */
public final class Main {

    private static final long TICK_MILLIS = Long.getLong("tick", 500);

    public static void main(String[] args) {
        PrintStream answer = System.out;
        System.setOut(System.err); // libraries print too, and the reader of our one line must not meet theirs
        ScheduledExecutorService clock = Executors.newScheduledThreadPool(2);
        endWithParent(clock);
        try {
            answer.println(start(args, clock));
            answer.flush();
        } catch (Throwable failure) { // HAPI's threads would keep a half-started server alive
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    private static String start(String[] args, ScheduledExecutorService clock) throws Exception {
        Class<?> release = switch (args.length == 0 ? "R4" : args[0]) {
            case "R4" -> JpaR4Config.class;
            case "R5" -> JpaR5Config.class;
            default -> throw new IllegalArgumentException("FHIR release " + args[0] + ": R4 or R5 is served");
        };
        var context = new AnnotationConfigApplicationContext(release, ServerConfig.class);
        var connector = listen(new FhirServlet(context), args.length < 2 ? 0 : Integer.parseInt(args[1]));
        keepJobsMoving(clock, context.getBean(IJobMaintenanceService.class));
        return "http://127.0.0.1:" + connector.getLocalPort() + "/fhir";
    }

    private static ServerConnector listen(FhirServlet fhir, int port) throws Exception {
        var holder = new ServletHolder(fhir);
        holder.setInitOrder(1);
        var handler = new ServletContextHandler("/");
        handler.addServlet(holder, "/fhir/*");
        var server = new Server(new InetSocketAddress("127.0.0.1", port));
        server.setHandler(handler);
        server.start();
        return (ServerConnector) server.getConnectors()[0];
    }

    /** Without this, an $export waits for a pass a minute at each of its steps and takes three minutes. */
    private static void keepJobsMoving(ScheduledExecutorService clock, IJobMaintenanceService jobs) {
        if (TICK_MILLIS <= 0) {
            return;
        }
        Runnable pass = () -> {
            try {
                jobs.runMaintenancePass();
            } catch (RuntimeException failure) { // an exception would silently end the schedule
                LoggerFactory.getLogger(Main.class).warn("maintenance pass failed", failure);
            }
        };
        clock.scheduleWithFixedDelay(pass, TICK_MILLIS, TICK_MILLIS, TimeUnit.MILLISECONDS);
    }

    /** A killed parent cannot tell us; the system closes its pipe, and gives us a new parent. Either one ends us. */
    private static void endWithParent(ScheduledExecutorService clock) {
        var reader = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (IOException closed) {
                // the same as its end
            }
            Runtime.getRuntime().halt(0); // nothing to save: the database is in memory
        });
        reader.setDaemon(true);
        reader.start();

        Optional<Long> parent = parent();
        Runnable watch = () -> {
            if (!parent().equals(parent)) {
                Runtime.getRuntime().halt(0);
            }
        };
        clock.scheduleWithFixedDelay(watch, 500, 500, TimeUnit.MILLISECONDS);
    }

    private static Optional<Long> parent() {
        return ProcessHandle.current().parent().map(ProcessHandle::pid);
    }

    private Main() {}
}
