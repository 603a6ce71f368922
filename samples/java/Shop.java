import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** What a shop's back end in Java says to its database: Shop URL USER PASSWORD statements|batch|large_object. */
public final class Shop {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = DriverManager.getConnection(arguments[0], arguments[1], arguments[2])) {
            switch (arguments[3]) {
                case "statements" -> statements(connection);
                case "batch" -> batch(connection);
                case "large_object" -> largeObject(connection);
                default -> throw new IllegalArgumentException(arguments[3]);
            }
        }
    }

    private static void statements(Connection connection) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("select name from customers where id = ?")) {
            for (int id = 1; id <= 5; id++) {
                select.setInt(1, id);
                drain(select.executeQuery());
            }
        }
        String every = "select ?::text, ?::int8, ?::numeric, ?::float8, ?::bool, ?::bytea, ?::timestamptz, ?::uuid, ?::int4, ?::int4[]";
        try (PreparedStatement select = connection.prepareStatement(every)) {
            for (int round = 0; round < 5; round++) {
                select.setString(1, "it's a \\ \"test\" \u00e9\u20ac");
                select.setLong(2, Long.MIN_VALUE);
                select.setBigDecimal(3, new BigDecimal("-0.00012300"));
                select.setDouble(4, 1e100);
                select.setBoolean(5, true);
                select.setBytes(6, new byte[] {0, 1, (byte) 255});
                select.setTimestamp(7, new Timestamp(1_790_000_000_123L));
                select.setObject(8, UUID.fromString("12345678-1234-5678-1234-567812345678"));
                select.setNull(9, Types.INTEGER);
                select.setArray(10, connection.createArrayOf("int4", new Integer[] {1, null, 3}));
                drain(select.executeQuery());
            }
        }
        connection.setAutoCommit(false);
        try (PreparedStatement select = connection.prepareStatement("select n from generate_series(1, ?) n")) {
            select.setFetchSize(10);
            select.setInt(1, 35);
            drain(select.executeQuery());
            select.setInt(1, 12);
            try (ResultSet rows = select.executeQuery()) {
                rows.next();
            }
        }
        connection.commit();
        connection.setAutoCommit(true);
        try (Statement several = connection.createStatement()) {
            several.execute("select 1; update products set price = price where sku = 'TEA-1'; select 2");
            several.executeQuery("select broken");
        } catch (SQLException expected) {
            System.out.println(expected.getSQLState());
        }
    }

    private static void batch(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (PreparedStatement insert = connection.prepareStatement("insert into old_prices (sku, price) values (?, ?)")) {
            for (int row = 0; row < 20; row++) {
                insert.setString(1, "J-" + row);
                insert.setBigDecimal(2, new BigDecimal(row));
                insert.addBatch();
            }
            insert.executeBatch();
        }
        connection.commit();
        try (PreparedStatement insert = connection.prepareStatement(
                "insert into orders (customer, sku, amount) values (?, ?, ?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int row = 1; row <= 3; row++) {
                insert.setInt(1, row);
                insert.setString(2, "TEA-1");
                insert.setInt(3, row);
                insert.addBatch();
            }
            insert.executeBatch();
            drain(insert.getGeneratedKeys());
        }
        Savepoint savepoint = connection.setSavepoint("before");
        try (PreparedStatement insert = connection.prepareStatement("insert into products (sku) values (?)")) {
            for (String sku : new String[] {"J-1", "J-2", "J-1", "J-3"}) {
                insert.setString(1, sku);
                insert.addBatch();
            }
            insert.executeBatch();
        } catch (BatchUpdateException expected) {
            connection.rollback(savepoint);
        }
        try (Statement mixed = connection.createStatement()) {
            mixed.addBatch("update products set price = price + 1 where sku = 'TEA-1'");
            mixed.addBatch("update products set price = price - 1 where sku = 'TEA-1'");
            mixed.addBatch("delete from old_prices where sku like 'J-%'");
            mixed.executeBatch();
        }
        connection.commit();
    }

    private static void largeObject(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        PGConnection own = connection.unwrap(PGConnection.class);
        LargeObjectManager manager = own.getLargeObjectAPI();
        long oid = manager.createLO();
        try (LargeObject object = manager.open(oid, LargeObjectManager.READWRITE)) {
            object.write(new byte[1000]);
            object.seek(0);
            object.read(100);
        }
        manager.unlink(oid);
        connection.commit();
        connection.setAutoCommit(true);
        CopyManager copy = own.getCopyAPI();
        copy.copyIn("copy old_prices (sku, price) from stdin", new StringReader("L-1\t1\nL-2\t2\n"));
        copy.copyOut("copy (select * from old_prices where sku like 'L-%') to stdout", new ByteArrayOutputStream());
        try (Statement delete = connection.createStatement()) {
            delete.executeUpdate("delete from old_prices where sku like 'L-%'");
        }
    }

    private static void drain(ResultSet rows) throws SQLException {
        try (rows) {
            while (rows.next()) {
                rows.getObject(1);
            }
        }
    }

    private Shop() {}
}
