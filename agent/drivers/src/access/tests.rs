//! What `devices.toml` may say, and how its errors read.

use super::*;

#[test]
fn devices_of_every_driver_are_read() {
    let devices = read_devices(
        r#"
        [[device]]
        name = "mfp"
        driver = "snmp"
        address = "192.0.2.17"

        [[device]]
        name = "xerox"
        driver = "snmp"
        address = "192.0.2.18:1161"
        version = "3"
        user = "mon"
        auth = "sha256"
        auth_password = "authpass123"
        privacy = "aes128"
        privacy_password = "privpass123"

        [[device]]
        name = "office"
        driver = "ipp"
        address = "ipps://192.0.2.19/ipp/print"
        self_signed = true
        user = "mon"
        password = "authpass: 456"

        [[device]]
        name = "box"
        driver = "host"
        watch_programs = ["acad"]

        [[device]]
        name = "scale"
        driver = "exec"
        command = ["scale", "--json"]
        timeout = "10s"
        class = "other"
        "#,
    )
    .unwrap();
    let names: Vec<_> = devices.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["mfp", "xerox", "office", "box", "scale"]);
    let Access::Snmp(Snmp { identity: SnmpIdentity::V2c { community }, .. }) = &devices[0].access else {
        panic!("{devices:?}");
    };
    assert_eq!(community, "public");
    assert_eq!(devices[4].timeout, Duration::from_secs(10));
    assert!(!format!("{devices:?}").contains("authpass"), "secrets stay out of logs");
}

#[test]
fn a_wrong_device_is_named_with_its_line() {
    let head = "# devices\n[[device]]\nname = \"mfp\"\n";
    for (rest, why) in [
        ("driver = \"snmp\"", "address is missing"),
        ("driver = \"snmp\"\naddress = \"a\"\nversion = \"4\"", "version \"4\""),
        ("driver = \"snmp\"\naddress = \"a\"\nversion = \"3\"", "user is missing"),
        ("driver = \"snmp\"\naddress = \"a\"\nuser = \"mon\"", "user does not belong"),
        ("driver = \"host\"\naddress = \"a\"", "address does not belong"),
        ("driver = \"exec\"", "command is missing"),
        ("driver = \"host\"\nclass = \"fridge\"", "class \"fridge\""),
        ("driver = \"host\"\nwatch_programs = [\"/bin/sh\"]", "watch_programs has \"/bin/sh\""),
        ("driver = \"ipp\"\naddress = \"192.0.2.19\"", "expected ipp://HOST"),
        ("driver = \"ipp\"\naddress = \"ipp://a\"\nuser = \"u\"\npassword = \"p\"", "a login needs ipps://"),
        ("driver = \"ipp\"\naddress = \"ipps://a\"\nuser = \"u\"", "user and password belong together"),
        ("driver = \"ipp\"\naddress = \"ipps://a\"\npassword = \"p\"", "user and password belong together"),
        ("driver = \"ipp\"\naddress = \"ipps://a\"\nuser = \"u:v\"\npassword = \"p\"", "colon"),
        (
            "driver = \"ipp\"\naddress = \"ipps://a\"\nuser = \"u\"\npassword = \"p\\r\\nX: y\"",
            "nobody can type",
        ),
        ("driver = \"snmp\"\naddress = \"a\"\npassword = \"p\"", "password does not belong"),
        ("driver = \"exec\"\ncommand = [\"a\"]\nwatch_programs = []", "watch_programs does not belong"),
        ("driver = \"host\"\ntimeout = \"1h\"", "timeout of 3600s"),
        (
            "driver = \"snmp\"\naddress = \"a\"\nversion = \"3\"\nuser = \"u\"\nauth = \"md5\"\nauth_password = \"short\"",
            "shorter than 8",
        ),
        ("driver = \"host\"\n[[device]]\nname = \"mfp\"\ndriver = \"host\"", "twice"),
    ] {
        let err = read_devices(&format!("{head}{rest}\n")).unwrap_err().to_string();
        assert!(err.contains(why), "{rest}: {err}");
        assert!(err.contains("line 2, device \"mfp\"") || why == "twice", "{err}");
    }
    let err = read_devices(&format!("{head}driver = \"snmp\"\nadress = \"a\"\n")).unwrap_err();
    assert!(shared::error::chain(&err).contains("line 5"), "{}", shared::error::chain(&err));
}

#[test]
fn an_error_in_the_line_of_a_secret_does_not_tell_it() {
    let head = "[[device]]\nname = \"mfp\"\ndriver = \"snmp\"\naddress = \"a\"\n";
    for line in [
        "community = s4711",
        "community = 4711",
        "community = \"s4711",
        "community = \"s4711\" \"x\"",
        "auth = \"s4711\"",
        "auth_pasword = \"s4711\"",
        "community = [\"s4711\"]",
    ] {
        let err = read_devices(&format!("{head}{line}\n")).unwrap_err();
        let told = shared::error::chain(&err);
        assert!(told.contains("line 5, column") && !told.contains("4711"), "{line}: {told}");
        assert!(!format!("{err:?}").contains("4711"), "{line}: {err:?}");
    }
}

#[test]
fn firmware_is_allowed_only_by_a_table_and_its_errors_name_the_tables_line() {
    let device = "[[device]]\nname = \"mfp\"\ndriver = \"snmp\"\naddress = \"192.0.2.17\"\n";
    let read = |table: &str| read_devices(&format!("{device}\n{table}")).map(|mut all| all.remove(0));
    assert!(!read("").unwrap().firmware.allowed);
    let open = read(
        "[device.firmware]\nallowed = true\nuser = \"u\"\npassword = \"s3cret\"\nwrite_community = \"s3cret\"\n",
    );
    let open = open.unwrap();
    assert!(open.firmware.allowed && !format!("{open:?}").contains("s3cret"), "secrets stay out of logs");
    for (table, why) in [
        ("handlers = [\"scp\"]", "handler \"scp\", expected one of raw9100, ftp, http-upload"),
        ("user = \"u\"", "user without a password"),
        ("password = \"a\\r\\nb\"", "a character in it that it cannot have"),
        ("self_signed = true", "self_signed needs tls = true"),
        ("listen = \"eth0\"", "listen \"eth0\", expected an address of this box"),
        ("host = \"192.0.2.1/x\"", "expected a name or an address"),
        ("port = 0", "port 0"),
        ("stall = \"1h\"", "stall of 3600s, expected up to 900s"),
    ] {
        let err = read(&format!("[device.firmware]\nallowed = true\n{table}\n")).unwrap_err().to_string();
        assert!(err.starts_with("line 6, device \"mfp\": firmware: ") && err.contains(why), "{table}: {err}");
    }
    assert!(read("[device.firmware]\n").is_err(), "whether it is allowed has to be said");
    assert!(read("[device.firmware]\nallowed = true\npasword = \"x\"\n").is_err());
}
