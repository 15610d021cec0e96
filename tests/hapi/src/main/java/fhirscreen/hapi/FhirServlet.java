package fhirscreen.hapi;

import ca.uhn.fhir.batch2.jobs.export.BulkDataExportProvider;
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.interceptor.api.Hook;
import ca.uhn.fhir.interceptor.api.Pointcut;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.dao.IFhirSystemDao;
import ca.uhn.fhir.jpa.provider.DiffProvider;
import ca.uhn.fhir.jpa.provider.JpaCapabilityStatementProvider;
import ca.uhn.fhir.jpa.provider.JpaSystemProvider;
import ca.uhn.fhir.jpa.provider.ValueSetOperationProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.api.RestOperationTypeEnum;
import ca.uhn.fhir.rest.api.server.RequestDetails;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.exceptions.ForbiddenOperationException;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import java.util.List;
import java.util.Set;
import org.springframework.context.ApplicationContext;

/** The REST side: which operations are offered, in what page sizes, and which searches are forbidden. */
class FhirServlet extends RestfulServer {

    private final transient ApplicationContext beans;

    FhirServlet(ApplicationContext beans) {
        super(beans.getBean(FhirContext.class));
        this.beans = beans;
    }

    @Override
    protected void initialize() {
        registerProviders(beans.getBean(ResourceProviderFactory.class).createProviders());
        registerProvider(beans.getBean(JpaSystemProvider.class));
        registerProvider(beans.getBean(BulkDataExportProvider.class));
        registerProvider(beans.getBean(ValueSetOperationProvider.class));
        registerProvider(beans.getBean(DiffProvider.class));
        setServerConformanceProvider(new JpaCapabilityStatementProvider(
                this,
                beans.getBean(IFhirSystemDao.class),
                beans.getBean(JpaStorageSettings.class),
                beans.getBean(ISearchParamRegistry.class),
                beans.getBean(IValidationSupport.class)));
        var paging = beans.getBean(DatabaseBackedPagingProvider.class);
        paging.setDefaultPageSize(Integer.getInteger("page.default", 20));
        paging.setMaximumPageSize(Integer.getInteger("page.max", 10_000));
        setPagingProvider(paging);
        setDefaultResponseEncoding(EncodingEnum.JSON);
        registerInterceptor(new ForbiddenSearches(Set.copyOf(List.of(System.getProperty("forbidden", "").split(",")))));
    }

    /** Answers 403 to searches for some types, as a server does whose token lacks their scopes. */
    public record ForbiddenSearches(Set<String> types) {

        @Hook(Pointcut.SERVER_INCOMING_REQUEST_PRE_HANDLED)
        public void refuse(RequestDetails request, RestOperationTypeEnum operation) {
            if (operation == RestOperationTypeEnum.SEARCH_TYPE && types.contains(request.getResourceName())) {
                throw new ForbiddenOperationException("searching " + request.getResourceName() + " is forbidden");
            }
        }
    }
}
